// expect: use it inside one coroutine
#include <cohort/core/run_sync.hpp>
#include <cohort/ipc/peer.hpp>

struct protocol {
  using to_child = int;
  using to_parent = int;
};

int main() { cohort::run_sync(cohort::spawn<protocol>(cohort::command("true"))); }
