// expect: [-Werror
// also: forgotten_co_await_of_a_child.cpp:6:
// flags: -Werror=unused-result
#include <cohort/process/child.hpp>

void run(cohort::child& child) { child.wait(); }
