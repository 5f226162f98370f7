// expect: name it first
// compiler: gcc<13
#include <string>

#include <cohort/ipc/channel.hpp>

struct question {
  int number;
};

cohort::asio::awaitable<void> serve(cohort::channel<int, question>& to, std::string text) {
  co_await to.serve_calls([text](question what) -> cohort::asio::awaitable<int> {
    co_return what.number + static_cast<int>(text.size());
  });
}

int main() {}
