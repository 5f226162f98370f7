// expect: cohort: a handler is a coroutine that returns asio::awaitable<void>
#include <cohort/worker/run_worker.hpp>

int main() {
  return cohort::run_worker([](asio::ip::tcp::socket, cohort::worker&) {});
}
