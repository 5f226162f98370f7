// SPDX-License-Identifier: BSL-1.0
// A chat of several rooms at a WebSocket, which no restart of a worker, of the agent or of the primary interrupts: each
// message comes once to everybody in the room, and those of one sender in their order.
//
//   chat --listen 127.0.0.1:8000 --workers 4 --history chat.history --spread 5
//
// Pages of one room may be at different workers. A worker gives what its pages say to the agent, which numbers it and
// tells all workers (history.hpp). A page that has lost its connection says which number it has seen last, and is told
// what it has missed; what it has said and not seen come back it says again, and the agent drops what it knows.
//
// A page says `join ROOM AFTER PAGE USER` and then `say COUNTER TEXT`, with tabs between; it is told lines of the log.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include <cohort/cohort.hpp>
#include <cohort/net/endpoint.hpp>

#include "../http.hpp"
#include "history.hpp"
#include "page.hpp"
#include "web_socket.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;

namespace chat {

constexpr auto retry_pause = 50ms;

/// A room as one worker knows it: its last lines, and who is to hear the next.
struct room {
  std::deque<message> lines;
  std::uint64_t dropped = 0;  // the number of the last line that is not here any more
  std::set<web::socket*> visitors;
};

/// What one worker knows: the same as all the others, sooner or later.
class rooms {
 public:
  explicit rooms(cohort::worker& self) : talk_(self), loaded_(self.get_executor()), asking_(self.get_executor()) {
    talk_.on<said>([this](const said& what) { hear(what); });
    talk_.on<cohort::agent_back>([this](const cohort::agent_back&) { ask(); });
  }

  /// Waits until what was said before is here.
  awaitable<void> load() {
    while (!loaded_.is_set()) {
      ask();
      try {
        co_await cohort::with_timeout(loaded_.wait(), 1s);
      } catch (const std::system_error& error) {
        if (error.code() != cohort::errc::timed_out) throw;  // else the agent was replaced in between
      }
    }
  }

  /// Returns when the agent has it, and so everybody will; throws if that cannot be.
  awaitable<void> deliver(say what) {
    asio::steady_timer pause(loaded_.get_executor());
    for (;;) {
      const cohort::receipt receipt = co_await talk_.send_to_agent(agent_name, what);
      if (receipt.complete()) co_return;
      for (const auto& each : receipt.failures) {
        if (each.why == cohort::undelivered::failed) throw std::runtime_error(cohort::to_string(each));
      }
      pause.expires_after(retry_pause);  // there will be another agent, which drops what this one had written down
      co_await pause.async_wait(use_awaitable);
    }
  }

  /// Null if there are too many.
  room* enter(const std::string& name) {
    constexpr std::size_t most = 1000;
    if (!rooms_.contains(name) && rooms_.size() >= most) return nullptr;
    return &at(name);
  }

  awaitable<void> end() { return asking_.cancel_and_wait(); }

 private:
  room& at(const std::string& name) {
    const auto [where, is_new] = rooms_.try_emplace(name);
    if (is_new) where->second.dropped = before_;
    return where->second;
  }

  void hear(const said& what) {
    if (what.after > last_) return ask();  // something is missing in between
    std::set<room*> changed;
    for (const auto& line : what.lines) {
      message next(line);
      if (next.number <= last_) continue;
      if (next.number != last_ + 1) forget(next.number - 1);
      last_ = next.number;
      room& here = at(next.room);
      here.lines.push_back(std::move(next));
      constexpr std::size_t longest = 1000;
      if (here.lines.size() > longest) {
        here.dropped = here.lines.front().number;
        here.lines.pop_front();
      }
      changed.insert(&here);
    }
    loaded_.set();
    for (const room* each : changed) {
      for (auto* visitor : each->visitors) visitor->wake();
    }
  }

  /// The log has dropped its lines up to here before this worker has had them all.
  void forget(std::uint64_t number) {
    before_ = number;
    for (auto& [name, each] : rooms_) each.dropped = number;
  }

  void ask() {
    if (asking_.size() == 0) asking_.start(ask_until_heard(), cohort::ignored("the next line asks again"));
  }

  awaitable<void> ask_until_heard() {
    asio::steady_timer pause(loaded_.get_executor());
    for (;;) {
      const want what{last_};
      const cohort::receipt receipt = co_await talk_.send_to_agent(agent_name, what);
      if (receipt.complete()) co_return;
      pause.expires_after(retry_pause);
      co_await pause.async_wait(use_awaitable);
    }
  }

  bus talk_;
  cohort::event loaded_;
  cohort::task_group asking_;
  std::map<std::string, room> rooms_;
  std::uint64_t last_ = 0;
  std::uint64_t before_ = 0;  // a room that is new here may have had lines up to this one
};

bool is_name(std::string_view text) {
  constexpr std::size_t longest = 40;
  return !text.empty() && text.size() <= longest && std::none_of(text.begin(), text.end(), [](char each) {
    return static_cast<unsigned char>(each) < ' ' || each == '\x7f';
  });
}

/// One page's WebSocket.
class visit {
 public:
  visit(tcp::socket& socket, cohort::worker& self, rooms& all, std::string_view input)
      : self_(self), all_(all), web_(socket, input), written_(self.get_executor()) {}

  awaitable<void> run() {
    cohort::task_group beside(self_.get_executor());
    beside.start(write());
    beside.start(leave());
    std::exception_ptr failure;
    try {
      co_await read();
      // The answer to the page's goodbye is still to be written.
      co_await cohort::with_timeout(written_.wait(), 1s);
    } catch (...) {
      failure = std::current_exception();
    }
    if (room_ != nullptr) room_->visitors.erase(&web_);
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await beside.cancel_and_wait();
    if (failure) std::rethrow_exception(failure);
  }

 private:
  awaitable<void> read() {
    while (const auto text = co_await web_.receive()) {
      std::string problem;
      try {
        co_await take(*text);
      } catch (const std::system_error& error) {
        if (error.code() == asio::error::operation_aborted) throw;
        problem = error.what();
      } catch (const std::exception& error) {
        problem = error.what();
      }
      if (problem.empty()) continue;
      // The page says it again elsewhere, and what it says after it too, in this order.
      cohort::error_log::write(fmt::format("worker {}: not delivered: {}", self_.slot(), problem));
      web_.close(web::close_code::failed, "not delivered");
      co_return;
    }
  }

  awaitable<void> take(const std::string& text) {
    const auto part = fields(text, text.starts_with("say\t") ? 3 : 5);
    say what;
    if (room_ != nullptr && part.size() == 3 && part[0] == "say" &&
        http::parse_number(part[1], std::uint64_t{1}, UINT64_MAX, what.counter)) {
      what.room = name_;
      what.page = page_;
      what.user = user_;
      for (const char each : part[2]) what.text += static_cast<unsigned char>(each) < ' ' ? ' ' : each;
      co_await all_.deliver(std::move(what));
    } else if (room_ == nullptr && part.size() == 5 && part[0] == "join" && is_name(part[1]) && is_name(part[3]) &&
               is_name(part[4]) && http::parse_number(part[2], std::uint64_t{0}, UINT64_MAX, seen_)) {
      name_ = part[1];
      page_ = part[3];
      user_ = part[4];
      join();
    } else {
      web_.close(web::close_code::policy, "not understood");
    }
  }

  void join() {
    room_ = all_.enter(name_);
    if (room_ == nullptr) return web_.close(web::close_code::later, "too many rooms");
    web_.send(fmt::format("joined\t{}\t{}\t{}", self_.slot(), ::getpid(), self_.generation()));
    room_->visitors.insert(&web_);
  }

  awaitable<void> write() {
    try {
      while (!web_.close_sent()) {
        if (room_ != nullptr) send_lines();
        if (web_.wants_write()) {
          co_await web_.flush();
        } else {
          co_await web_.woken();
        }
      }
    } catch (const std::system_error&) {
      web_.hang_up();  // which ends the reading
    }
    written_.set();
  }

  /// A few of the lines that the page has not seen. A page that reads slowly takes no memory: the room has the lines.
  void send_lines() {
    if (seen_ != 0 && seen_ < room_->dropped) web_.send("gap");
    seen_ = std::max(seen_, room_->dropped);
    auto next = std::upper_bound(room_->lines.begin(), room_->lines.end(), seen_,
                                 [](std::uint64_t seen, const message& each) { return seen < each.number; });
    for (int count = 0; count < 64 && next != room_->lines.end(); ++count, ++next) {
      web_.send(next->line);
      seen_ = next->number;
    }
  }

  /// When the worker drains, each page is told in its turn (worker_options::drain_spread), and comes again elsewhere.
  awaitable<void> leave() {
    co_await self_.until_draining();
    web_.close(web::close_code::restart, "service restart");
    asio::steady_timer patience(self_.get_executor(), 2s);
    co_await patience.async_wait(use_awaitable);
    web_.hang_up();
  }

  cohort::worker& self_;
  rooms& all_;
  web::socket web_;
  cohort::event written_;  // all that there was to write, or it cannot be
  room* room_ = nullptr;
  std::string name_, page_, user_;
  std::uint64_t seen_ = 0;  // the number of the last line that the page has, or will have
};

awaitable<void> serve(tcp::socket socket, cohort::worker& self, rooms& all) {
  http::request_parser request("Sec-WebSocket-Key");
  std::array<char, 8192> bytes;
  std::string_view input;
  const bool more = co_await self.readable(socket);
  if (!more) co_return;
  do {
    const std::size_t size = co_await socket.async_read_some(asio::buffer(bytes), use_awaitable);
    input = std::string_view(bytes.data(), size);
  } while (!request.parse(input) && !request.failed());

  socket.set_option(tcp::no_delay(true));
  std::string output;
  if (!request.failed() && request.path() == "/chat" && !request.header().empty()) {
    socket.set_option(asio::socket_base::keep_alive(true));
    output = web::handshake(request.header());
    co_await asio::async_write(socket, asio::buffer(output), use_awaitable);
    visit one(socket, self, all, input);
    co_await one.run();
    co_await http::end(socket, true);
    co_return;
  }
  if (!request.failed() && request.path() == "/") {
    output = fmt::format(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n"
        "Connection: close\r\n\r\n{}",
        page.size(), page);
  } else if (request.failed()) {
    http::append(output, request, http::bad_request(request), true);
  } else {
    http::append(output, request, {HTTP_STATUS_NOT_FOUND, "not found\n"}, true);
  }
  co_await asio::async_write(socket, asio::buffer(output), use_awaitable);
  co_await http::end(socket, true);
}

struct settings {
  std::string listen = "127.0.0.1:8000", history = "chat.history";
  unsigned workers = 4;
  double spread = 5;  // in seconds
};

settings parse_options(int argc, char* argv[]) {
  settings result;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--listen") {
      result.listen = cohort::to_string(cohort::parse_endpoint(value));
    } else if (option == "--history" && !value.empty()) {
      result.history = value;
    } else if (!(option == "--workers" && http::parse_number(value, 1u, 1024u, result.workers)) &&
               !(option == "--spread" && http::parse_number(value, 0.0, 600.0, result.spread))) {
      throw std::invalid_argument(fmt::format("not understood: {} {}", option, value));
    }
  }
  return result;
}

}  // namespace chat

int main(int argc, char* argv[]) {
  chat::settings wanted;
  try {
    wanted = chat::parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr,
               "chat: {}\n"
               "usage: chat [--listen ADDRESS:PORT] [--workers N] [--history DIRECTORY] [--spread SECONDS]\n",
               error.what());
    return 2;
  }

  // Of a worker, and of the agent: each is a process, and has its own.
  std::optional<chat::rooms> rooms;
  std::optional<chat::historian> historian;

  cohort::cluster_options options;
  options.listen = {wanted.listen};
  options.workers = wanted.workers;
  options.worker.drain_spread = std::chrono::milliseconds(static_cast<int>(1000 * wanted.spread));
  options.worker.drain_timeout = options.worker.drain_spread + 5s;
  options.worker.set_up = [&](cohort::worker& self) -> awaitable<void> {
    rooms.emplace(self);
    co_await rooms->load();
  };
  options.worker.tear_down = [&](cohort::worker&) -> awaitable<void> {
    co_await rooms->end();
    rooms.reset();
  };
  options.reload.max_draining =
      4 * wanted.workers;  // of old workers that still have pages; beyond that they are killed

  // A worker that hangs must not hold up the others: it asks for what it has missed.
  options.delivery.slow = cohort::slow_receiver::drop_oldest;
  options.delivery.queue = 32;

  cohort::agent_options agent(chat::agent_name);
  agent.set_up = [&](cohort::worker& self) -> awaitable<void> {
    historian.emplace(self, wanted.history);
    co_return;
  };
  agent.run = [&](cohort::worker&) { return historian->watch(); };
  agent.tear_down = [&](cohort::worker&) -> awaitable<void> {
    if (historian) co_await historian->end();
    historian.reset();
  };
  agent.survives_exceptions = false;  // another one reads the log anew
  options.agents = {agent};
  return cohort::serve(
      options, [&](tcp::socket socket, cohort::worker& self) { return chat::serve(std::move(socket), self, *rooms); });
}
