// expect: cohort reports failures by exceptions: compile without -fno-exceptions
// flags: -fno-exceptions
#include <cohort/process/spawn.hpp>
