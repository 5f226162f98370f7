// SPDX-License-Identifier: BSL-1.0
// What tests/matrix builds and runs: one program that uses each room of the library once. It is its own child, its own
// worker and the process of its own pool.
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include <asio/read.hpp>
#include <asio/write.hpp>

#include <cohort/cohort.hpp>

struct question {
  int number;
};
struct answer {
  int number;
  std::string text;
};
struct protocol {
  using to_child = question;
  using to_parent = answer;
};

int twice(int number) { return 2 * number; }
using job = cohort::function_job<&twice>;

using local = asio::local::stream_protocol;

void check(bool holds, const char* what) {
  if (holds) return;
  fmt::print(stderr, "not so: {}\n", what);
  std::exit(1);
}

asio::awaitable<void> child() {
  auto parent = cohort::parent<protocol>(co_await asio::this_coro::executor);
  const auto reply = [](question asked) -> asio::awaitable<answer> {
    answer found{2 * asked.number, "twice"};
    co_return found;
  };
  co_await parent.serve_calls(reply);
}

asio::awaitable<void> echo(local::socket socket, cohort::worker&) {
  char text[4];
  co_await asio::async_read(socket, asio::buffer(text), asio::use_awaitable);
  co_await asio::async_write(socket, asio::buffer(text), asio::use_awaitable);
}

asio::awaitable<void> ask_child() {
  auto started = co_await cohort::spawn<protocol>(cohort::command("/proc/self/exe", "child"));
  const question asked{21};
  const auto found = co_await started.call<answer>(asked);
  check(found.number == 42 && found.text == "twice", "a call is answered");
  co_await started.disconnect();
  const auto status = co_await started.wait();
  check(status.success(), "a child ends");
}

asio::awaitable<void> ask_pool() {
  cohort::pool_options options;
  options.processes = 1;
  cohort::process_pool<job> pool(co_await asio::this_coro::executor, options);
  const int found = co_await pool.run(4);
  check(found == 8, "a pool runs a job");
  co_await pool.close();
}

asio::awaitable<void> ask_cluster(std::string path) {
  const auto executor = co_await asio::this_coro::executor;
  auto server = co_await cohort::spawn(cohort::command("/proc/self/exe", "serve", path).out(cohort::stdio::pipe));
  const auto ready = co_await server.out().read_line();
  check(ready == "ready", "a cluster gets ready");
  for (int turn = 0; turn < 3; ++turn) {
    local::socket socket(executor);
    const local::endpoint where(path);
    co_await socket.async_connect(where, asio::use_awaitable);
    char text[] = {'c', 'o', 'h', 'o'};
    co_await asio::async_write(socket, asio::buffer(text), asio::use_awaitable);
    char back[4];
    co_await asio::async_read(socket, asio::buffer(back), asio::use_awaitable);
    check(std::string_view(back, 4) == "coho", "a worker answers");
  }
  const auto status = co_await server.stop();
  check(status.success(), "a cluster stops");
}

asio::awaitable<void> parent() {
  const auto listed = co_await cohort::exec("echo 3; echo 1 >&2");
  check(listed.out == "3\n" && listed.err == "1\n", "a program is run");
  co_await ask_child();
  co_await ask_pool();
  std::string directory = "/tmp/cohort_matrix_XXXXXX";
  check(::mkdtemp(directory.data()) != nullptr, "there is room for a socket");
  co_await ask_cluster(directory + "/socket");
  std::filesystem::remove_all(directory);
}

int main(int argc, char** argv) {
  if (const auto status = cohort::pool::serve_if_worker<job>()) return *status;
  const std::string_view part = argc > 1 ? argv[1] : "";
  if (part == "child") {
    cohort::run_sync(child());
  } else if (part == "serve") {
    cohort::cluster_options options;
    options.listen = {std::string("unix:") + argv[2]};
    options.workers = 2;
    options.on_event = [](const cohort::cluster_event& event) {
      if (event.what == cohort::cluster_event::kind::listening) std::puts("ready");
      std::fflush(stdout);
    };
    return cohort::serve(options, echo);
  } else {
    cohort::run_sync(parent());
    std::puts("all of it works");
  }
  return 0;
}
