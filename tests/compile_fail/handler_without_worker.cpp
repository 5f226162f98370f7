// expect: cohort: a handler takes the socket by value and the worker by reference: asio::awaitable<void> handle(
#include <cohort/cluster/serve.hpp>

asio::awaitable<void> handle(asio::ip::tcp::socket socket);

int main() {
  cohort::cluster_options options;
  return cohort::serve(options, handle);
}
