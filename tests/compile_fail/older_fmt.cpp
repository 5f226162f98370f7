// expect: cohort needs fmt 9 or later: <fmt/format.h> on the include path is older
// flags: -I{here}/older
#include <cohort/process/exit_status.hpp>
