// expect: use it inside one coroutine
#include <optional>

#include <cohort/core/run_sync.hpp>

using cohort::asio::ip::tcp;

cohort::asio::awaitable<std::optional<tcp::socket>> connected();

int main() { cohort::run_sync(connected()); }
