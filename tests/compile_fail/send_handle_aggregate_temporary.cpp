// expect: name it first
// compiler: gcc<13
#include <string>

#include <cohort/ipc/channel.hpp>

struct job {
  int number;
  std::string text;
};

cohort::asio::awaitable<void> give(cohort::channel<job, int>& to, cohort::descriptor& what) {
  co_await to.send_handle(job{1, "x"}, what);
}

int main() {}
