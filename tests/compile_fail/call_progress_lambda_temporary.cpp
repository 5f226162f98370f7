// expect: name it first
// compiler: gcc<13
#include <string>
#include <variant>

#include <cohort/ipc/channel.hpp>

struct question {
  int number;
};
struct step {
  int done;
};
struct reply {
  int number;
};

cohort::asio::awaitable<void> ask(cohort::channel<question, std::variant<step, reply>>& to, std::string text) {
  const question what{1};
  co_await to.call<reply>(what, [text](step) {});
}

int main() {}
