// expect: use it inside one coroutine
#include <cohort/core/run_sync.hpp>
#include <cohort/process/spawn.hpp>

int main() { cohort::run_sync(cohort::spawn(cohort::command("true"))); }
