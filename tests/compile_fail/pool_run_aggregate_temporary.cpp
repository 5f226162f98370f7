// expect: or let it be made inside
// compiler: gcc<13
#include <string>

#include <cohort/pool/process_pool.hpp>

struct work {
  int number;
  std::string text;
};

struct job {
  using argument = work;
  using result = int;
  static int run(work what) { return what.number; }
};

cohort::asio::awaitable<void> ask(cohort::process_pool<job>& pool) { co_await pool.run(work{1, "x"}); }

int main() {}
