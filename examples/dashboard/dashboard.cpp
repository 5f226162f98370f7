// SPDX-License-Identifier: BSL-1.0
// A cluster that shows itself: a page of its workers and agents, live, with buttons to reload and to scale it.
//
//   GET  /                   the page
//   GET  /events             what it shows, as server-sent events: the figures each second, and what happens
//   POST /reload             replaces every worker
//   POST /scale?workers=N    has N workers
//   GET  /hello              something to serve besides
//
//   dashboard --listen 127.0.0.1:8000 --workers 4 --control dashboard.ctl
//
// A worker has no rights of its own over its cluster: it goes to the control socket, as cohortctl does, and so may do
// what the user that it runs as may do there. Whoever reaches the page has these rights: put a password in front of it.

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <cohort/cohort.hpp>
#include <cohort/net/endpoint.hpp>

#include "../http.hpp"
#include "page.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char each : text) {
    const auto byte = static_cast<unsigned char>(each);
    if (each == '"' || each == '\\') {
      result += {'\\', each};
    } else if (byte < ' ') {
      result += fmt::format("\\u{:04x}", byte);
    } else {
      result += each;
    }
  }
  return result + '"';
}

template <class Duration>
double seconds(Duration time) {
  return std::chrono::duration<double>(time).count();
}

/// The figures of a cluster as JSON.
std::string to_json(const cohort::cluster_stats& stats) {
  std::string out = fmt::format(
      R"({{"generation":{},"wanted":{},"ready":{},"restarts":{},"reloads":{},"uptime":{:.1f},"served":{},"listeners":[)",
      stats.generation, stats.wanted, stats.ready, stats.restarts, stats.reloads, seconds(stats.uptime), stats.served);
  const auto into = std::back_inserter(out);
  const auto list = [&](const auto& all, const auto& show) {
    for (bool first = true; const auto& each : all) {
      if (!std::exchange(first, false)) out += ',';
      show(each);
    }
  };
  list(stats.listeners, [&](const auto& each) { out += quoted(each.address); });
  out += R"(],"workers":[)";
  list(stats.workers, [&](const auto& each) {
    fmt::format_to(into,
                   R"({{"slot":{},"generation":{},"pid":{},"state":"{}","uptime":{:.1f},"open":{},"served":{},)"
                   R"("memory":{},"lag":{:.6f}}})",
                   each.slot, each.generation, each.pid, to_string(each.state), seconds(each.uptime), each.open,
                   each.served, each.memory, seconds(each.lag));
  });
  out += R"(],"slots":[)";
  list(stats.slots, [&](const auto& each) {
    fmt::format_to(into, R"({{"slot":{},"restarts":{},"degraded":{}}})", each.slot, each.restarts, each.degraded);
  });
  out += R"(],"agents":[)";
  list(stats.agents, [&](const auto& each) {
    fmt::format_to(into, R"({{"name":{},"pid":{},"state":"{}","uptime":{:.1f},"restarts":{},"memory":{}}})",
                   quoted(each.name), each.pid, to_string(each.state), seconds(each.uptime), each.restarts,
                   each.memory);
  });
  out += R"(],"counters":[)";
  list(stats.counters,
       [&](const auto& each) { fmt::format_to(into, R"({{"name":{},"value":{}}})", quoted(each.first), each.second); });
  return out + "]}";
}

/// What the viewers of one worker see. They share one connection to the control socket, which is there while they are.
class board {
 public:
  board(const asio::any_io_executor& executor, std::string control)
      : control_(std::move(control)), news_(executor), following_(executor) {}

  /// Keeps the board up to date, until it is cancelled.
  awaitable<void> run() {
    asio::steady_timer pause(news_.get_executor());
    for (;;) {
      while (viewers_ == 0) co_await news_.wait();
      std::string problem;
      try {
        co_await look();
      } catch (const std::system_error& error) {
        if (error.code() == asio::error::operation_aborted) throw;
        problem = error.what();
      }
      co_await following_.cancel_and_wait();
      if (problem.empty()) continue;
      add("gone", quoted(problem));  // the primary is replaced, perhaps: there will be another one
      pause.expires_after(500ms);
      co_await pause.async_wait(use_awaitable);
    }
  }

  /// Sends what is on the board to a viewer, and what comes, until the viewer goes or the worker drains. The page comes
  /// again then by itself, at another worker.
  awaitable<void> show(tcp::socket& socket, const cohort::worker& self) {
    const viewer here(viewers_);
    news_.notify();
    std::string output =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        "retry: 300\n\n";
    std::uint64_t seen = 0;
    while (!self.draining()) {
      for (const auto& [number, text] : lines_) {
        if (number > seen) output += text;
      }
      seen = last_;
      co_await asio::async_write(socket, asio::buffer(output), use_awaitable);
      output.clear();
      if (seen == last_) co_await news_.wait();
    }
  }

 private:
  struct viewer {
    explicit viewer(std::size_t& all) : count(all) { ++count; }
    viewer(const viewer&) = delete;
    ~viewer() { --count; }
    std::size_t& count;
  };

  awaitable<void> look() {
    auto client = co_await cohort::with_timeout(cohort::control_client::connect(control_), 5s);
    following_.start(follow(client), cohort::ignored("the next look at the figures fails with it"));
    asio::steady_timer pause(news_.get_executor());
    while (viewers_ != 0) {
      const auto stats = co_await cohort::with_timeout(client.stats(), 5s);
      add("stats", to_json(stats));
      pause.expires_after(1s);
      co_await pause.async_wait(use_awaitable);
    }
  }

  awaitable<void> follow(cohort::control_client& client) {
    const auto seen = [this](const cohort::cluster_event& event) { add("happened", quoted(to_string(event))); };
    co_await client.follow(seen);
  }

  void add(std::string_view kind, std::string_view data) {
    lines_.emplace_back(++last_, fmt::format("event: {}\ndata: {}\n\n", kind, data));
    constexpr std::size_t longest = 100;
    if (lines_.size() > longest) lines_.pop_front();
    news_.notify();
  }

  std::string control_;
  cohort::event news_;
  cohort::task_group following_;
  std::deque<std::pair<std::uint64_t, std::string>> lines_;
  std::uint64_t last_ = 0;
  std::size_t viewers_ = 0;
};

/// Does what a button says, and returns what came of it.
awaitable<http::response> act(const http::request_parser& request, const std::string& control) {
  unsigned workers = 0;
  const bool scale = request.path() == "/scale";
  if (scale &&
      !(request.query().starts_with("workers=") && http::parse_number(request.query().substr(8), 1u, 64u, workers))) {
    co_return http::response(HTTP_STATUS_BAD_REQUEST, "want /scale?workers=N, with N from 1 to 64\n");
  }
  std::string problem;
  try {
    auto client = co_await cohort::with_timeout(cohort::control_client::connect(control), 5s);
    if (scale) {
      const auto result = co_await cohort::with_timeout(client.scale(workers), 5s);
      problem = result.reason;
    } else {
      const auto result = co_await client.reload();
      problem = result.reason;
    }
  } catch (const std::system_error& error) {
    if (error.code() == asio::error::operation_aborted) throw;
    problem = error.what();
  }
  if (!problem.empty()) co_return http::response(HTTP_STATUS_SERVICE_UNAVAILABLE, problem + '\n');
  co_return http::response(HTTP_STATUS_OK, "done\n");
}

awaitable<void> serve_connection(tcp::socket socket, cohort::worker& self, board& shown, const std::string& control) {
  // A page of another site cannot set this header: its buttons do nothing here.
  http::request_parser request("X-Dashboard");
  std::array<char, 8192> bytes;
  std::string_view input;
  const bool more = co_await self.readable(socket);
  if (!more) co_return;
  do {
    const std::size_t size = co_await socket.async_read_some(asio::buffer(bytes), use_awaitable);
    input = std::string_view(bytes.data(), size);
  } while (!request.parse(input) && !request.failed());

  std::string output;
  const auto path = request.failed() ? std::string_view() : request.path();
  const bool gets = request.method() == HTTP_GET;
  if (path == "/events" && gets) {
    co_await shown.show(socket, self);
  } else if (path == "/" && gets) {
    output = fmt::format(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n"
        "Connection: close\r\n\r\n{}",
        page.size(), page);
  } else if (path == "/hello" && gets) {
    http::append(output, request, {HTTP_STATUS_OK, "hello\n"}, true);
  } else if (path == "/reload" || path == "/scale") {
    http::response done(HTTP_STATUS_FORBIDDEN, "want a POST with the header X-Dashboard\n");
    if (request.method() == HTTP_POST && !request.header().empty()) done = co_await act(request, control);
    http::append(output, request, {done.status, done.body}, true);
  } else if (request.failed()) {
    http::append(output, request, http::bad_request(request), true);
  } else {
    http::append(output, request, {HTTP_STATUS_NOT_FOUND, "not found\n"}, true);
  }
  co_await asio::async_write(socket, asio::buffer(output), use_awaitable);
  co_await http::end(socket, true);
}

int main(int argc, char* argv[]) {
  cohort::cluster_options options;
  options.workers = 4;
  options.control_socket = "dashboard.ctl";
  std::string address = "127.0.0.1:8000";
  try {
    for (int i = 1; i < argc; i += 2) {
      const std::string_view option = argv[i];
      const std::string value = i + 1 < argc ? argv[i + 1] : "";
      if (option == "--listen") {
        address = cohort::to_string(cohort::parse_endpoint(value));
      } else if (option == "--control" && !value.empty()) {
        options.control_socket = value;
      } else if (!(option == "--workers" && http::parse_number(value, 1u, 64u, options.workers))) {
        throw std::invalid_argument(fmt::format("not understood: {} {}", option, value));
      }
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "dashboard: {}\nusage: dashboard [--listen ADDRESS:PORT] [--workers N] [--control PATH]\n",
               error.what());
    return 2;
  }
  options.listen = {address};

  std::optional<board> shown;  // of a worker: each is a process, and has its own
  const std::string control = options.control_socket;
  options.worker.set_up = [&](cohort::worker& self) -> awaitable<void> {
    shown.emplace(self.get_executor(), control);
    co_return;
  };
  options.worker.run = [&](cohort::worker&) { return shown->run(); };
  options.worker.tear_down = [&](cohort::worker&) -> awaitable<void> {
    shown.reset();
    co_return;
  };
  options.agents = {cohort::agent_options("idle")};  // to show that there may be some
  return cohort::serve(options, [&](tcp::socket socket, cohort::worker& self) {
    return serve_connection(std::move(socket), self, *shown, control);
  });
}
