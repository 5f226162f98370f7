// expect: [-Werror
// also: forgotten_co_await.cpp:19:
// flags: -Werror=unused-result
#include <cohort/ipc/peer.hpp>

struct job {
  int number;
};
struct result {
  double sum;
};
struct protocol {
  using to_child = job;
  using to_parent = result;
};

asio::awaitable<void> run(cohort::peer<protocol>& child) {
  const job first{1};
  child.send(first);
  co_await child.disconnect();
}
