// expect: cohort: the protocol says nothing of what the child sends: give it `using to_parent = ...;`
#include <cohort/ipc/peer.hpp>

struct job {
  double sum;
};
struct protocol {
  using to_child = job;
};

asio::awaitable<void> run() {
  auto parent = cohort::parent<protocol>(co_await asio::this_coro::executor);
  co_await parent.disconnect();
}
