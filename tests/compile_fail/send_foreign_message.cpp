// expect: no matching
// also: constraints not satisfied
#include <variant>

#include <cohort/ipc/channel.hpp>

struct job {};
struct stop {};
struct answer {};

cohort::asio::awaitable<void> give(cohort::channel<std::variant<job, stop>, answer>& to) { co_await to.send(answer()); }

int main() {}
