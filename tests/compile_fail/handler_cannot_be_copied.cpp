// expect: cohort: the worker keeps a copy of its handler: make it copyable
#include <memory>

#include <cohort/worker/run_worker.hpp>

int main() {
  auto one = std::make_unique<int>(1);
  return cohort::run_worker(
      [one = std::move(one)](asio::ip::tcp::socket, cohort::worker&) -> asio::awaitable<void> { co_return; });
}
