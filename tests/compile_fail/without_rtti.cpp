// expect: cohort and Asio need run-time type information: compile without -fno-rtti
// flags: -fno-rtti
#include <cohort/cohort.hpp>
