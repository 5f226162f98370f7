// expect: name it first
// compiler: gcc<13
#include <string>

#include <cohort/core/single_flight.hpp>

cohort::asio::awaitable<int> length_of(std::string text) { co_return static_cast<int>(text.size()); }

cohort::asio::awaitable<void> ask(cohort::single_flight<std::string, int>& flights, std::string key) {
  co_await flights.run(key, [key] { return length_of(key); });
}

int main() {}
