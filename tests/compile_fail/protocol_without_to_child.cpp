// expect: cohort: the protocol says nothing of what the parent sends: give it `using to_child = ...;`
#include <cohort/ipc/peer.hpp>

struct result {
  double sum;
};
struct protocol {
  using to_parent = result;
};

asio::awaitable<void> run() {
  auto child = co_await cohort::spawn<protocol>(cohort::command("./child"));
  co_await child.disconnect();
}
