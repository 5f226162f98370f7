// expect: constraint
// also: pool_job
#include <cohort/pool/process_pool.hpp>

struct job {
  using argument = int;
  using result = int;
  static int run(const char* text) { return *text; }
};

cohort::asio::awaitable<void> ask(cohort::process_pool<job>& pool) { co_await pool.run(1); }

int main() {}
