// expect: name it first
// compiler: gcc<13
#include <string>

#include <cohort/pool/process_pool.hpp>

struct job {
  using argument = int;
  using result = int;
  using progress = int;
  static int run(int number) { return number; }
};

cohort::asio::awaitable<void> ask(cohort::process_pool<job>& pool, std::string text) {
  co_await pool.run_with_progress([text](int) {}, 1);
}

int main() {}
