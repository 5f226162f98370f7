// SPDX-License-Identifier: BSL-1.0
// Redis for coroutines: hiredis writes and reads the bytes, and Asio tells it when it can.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <hiredis/async.h>

#include <cohort/core/asio.hpp>
#include <cohort/core/error.hpp>
#include <cohort/core/event.hpp>
#include <cohort/core/timeout.hpp>
#include <cohort/net/endpoint.hpp>

namespace redis {

/// Why there is no answer, or the error that Redis has answered: `redis 127.0.0.1:6379: Connection refused`.
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What Redis answers: a text, a number, a list of answers, or nothing at all (there is no such key).
struct reply {
  reply() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  std::optional<std::string> text;
  long long number = 0;
  std::vector<reply> list;
};

/// Where Redis listens: `127.0.0.1:6379`, `[::1]:6379`, or `unix:/run/redis.sock`. Names are for whoever starts the
/// program: hiredis would block the loop to look one up.
struct address {
  explicit address(std::string where) : text(std::move(where)), local(text.starts_with("unix:/")) {
    try {
      const auto endpoint = local ? asio::ip::tcp::endpoint() : cohort::parse_endpoint(text);
      host = local ? text.substr(5) : endpoint.address().to_string();
      port = endpoint.port();
    } catch (const std::system_error&) {
      throw std::invalid_argument(fmt::format("redis {}: want ADDRESS:PORT or unix:/PATH", text));
    }
  }

  std::string text;
  bool local;        // a unix socket
  std::string host;  // or the path of that
  int port = 0;
};

namespace detail {

/// A command on its way.
struct question {
  explicit question(asio::any_io_executor executor) : answered(std::move(executor)) {}

  cohort::event answered;
  redis::reply answer;
  std::string error;  // instead of an answer
};

/// One connection, from its first command until it fails; never opened again.
///
/// The context of hiredis owns the descriptor and closes it. Asio has it lent, and forgets it (release) before that.
class connection : public std::enable_shared_from_this<connection> {
  using descriptor = asio::posix::stream_descriptor;

 public:
  connection(asio::any_io_executor executor, const address& where) : name_(where.text), descriptor_(executor) {
    const char* const host = where.host.c_str();
    std::unique_ptr<redisAsyncContext, decltype(&redisAsyncFree)> context(
        where.local ? redisAsyncConnectUnix(host) : redisAsyncConnect(host, where.port), &redisAsyncFree);
    if (!context) throw std::bad_alloc();
    if (context->err != 0) fail(context->errstr);
    descriptor_.assign(context->c.fd);
    context->ev.data = this;
    // A wait is for one event, and hiredis asks anew after each: nothing is ever to be taken back (delRead, delWrite).
    context->ev.addRead = [](void* self) noexcept { static_cast<connection*>(self)->wait_to_read(); };
    context->ev.addWrite = [](void* self) noexcept { static_cast<connection*>(self)->wait_to_write(); };
    context->ev.cleanup = [](void* self) noexcept { static_cast<connection*>(self)->on_end(); };
    context_ = context.release();
  }

  bool is_open() const { return context_ != nullptr; }

  /// Has the command written in the next turn of the loop, with the others of this one.
  std::shared_ptr<question> ask(std::span<const std::string_view> words) {
    std::vector<const char*> starts;
    std::vector<std::size_t> sizes;
    for (const auto word : words) {
      starts.push_back(word.data());
      sizes.push_back(word.size());
    }
    auto asked = std::make_shared<question>(descriptor_.get_executor());
    questions_.push_back(asked);
    const auto count = static_cast<int>(words.size());
    if (redisAsyncCommandArgv(context_, &on_reply, this, count, starts.data(), sizes.data()) != REDIS_OK) {
      questions_.pop_back();
      fail("hiredis takes no command");
    }
    return asked;
  }

  /// Waits for the answer. Who is cancelled meanwhile leaves it to come, and to be dropped.
  static asio::awaitable<reply> answer(std::shared_ptr<connection> self, std::shared_ptr<question> asked,
                                       std::chrono::milliseconds limit) {
    try {
      co_await cohort::with_timeout(asked->answered.wait(), limit);
    } catch (const std::system_error& error) {
      if (error.code() != cohort::errc::timed_out) throw;
      self->close(fmt::format("no answer within {} ms", limit.count()));
    }
    if (!asked->error.empty()) self->fail(asked->error);
    co_return std::move(asked->answer);
  }

  /// Has `heard` called with each message of a channel, and with null when the connection has ended.
  void subscribe(const std::string& channel, std::function<void(const std::string*)> heard) {
    heard_ = std::move(heard);
    if (redisAsyncCommand(context_, &on_message, this, "SUBSCRIBE %b", channel.data(), channel.size()) != REDIS_OK) {
      fail("hiredis takes no command");
    }
  }

  const std::string& why() const { return why_; }
  const std::string& name() const { return name_; }

  /// Ends every command that has no answer yet with this reason.
  void close(std::string why) {
    why_ = std::move(why);
    if (is_open()) redisAsyncFree(context_);
  }

 private:
  [[noreturn]] void fail(std::string_view why) const { throw error(fmt::format("redis {}: {}", name_, why)); }

  void wait_to_read() { wait(descriptor::wait_read, &connection::reads_, &redisAsyncHandleRead); }
  void wait_to_write() { wait(descriptor::wait_write, &connection::writes_, &redisAsyncHandleWrite); }

  void wait(descriptor::wait_type what, bool connection::* waits, void (*go_on)(redisAsyncContext*)) {
    if (std::exchange(this->*waits, true)) return;
    descriptor_.async_wait(what, [self = shared_from_this(), waits, go_on](std::error_code failed) {
      (*self).*waits = false;
      if (!failed && self->is_open()) go_on(self->context_);  // which may be the end of the context
    });
  }

  // Called in the order of the commands, and for each of them; without a reply when the connection ends.
  static void on_reply(redisAsyncContext* context, void* raw, void* self) noexcept {
    auto& questions = static_cast<connection*>(self)->questions_;
    const auto asked = std::move(questions.front());
    questions.pop_front();
    const auto* const reply = static_cast<const redisReply*>(raw);
    if (reply == nullptr) {
      asked->error = context->c.err != 0 ? context->c.errstr : static_cast<connection*>(self)->why_;
    } else if (reply->type == REDIS_REPLY_ERROR) {
      asked->error.assign(reply->str, reply->len);
    } else {
      asked->answer = copy(*reply);  // hiredis frees its own
    }
    asked->answered.set();
  }

  // Called for what Redis answers to SUBSCRIBE, for each message, and without a reply when the connection ends.
  static void on_message(redisAsyncContext* context, void* raw, void* self) noexcept {
    auto& here = *static_cast<connection*>(self);
    if (raw == nullptr) {
      if (context->c.err != 0) here.why_ = context->c.errstr;
      return here.heard_(nullptr);
    }
    const auto answer = copy(*static_cast<const redisReply*>(raw));
    if (answer.list.size() == 3 && answer.list[0].text == "message" && answer.list[2].text) {
      here.heard_(&*answer.list[2].text);
    }
  }

  static reply copy(const redisReply& from) {
    reply result;
    if (from.str != nullptr) result.text.emplace(from.str, from.len);
    if (from.type == REDIS_REPLY_INTEGER) result.number = from.integer;
    for (std::size_t i = 0; i < from.elements; ++i) result.list.push_back(copy(*from.element[i]));
    return result;
  }

  // hiredis closes the descriptor and frees the context when this returns.
  void on_end() {
    context_ = nullptr;
    descriptor_.release();
  }

  std::string name_, why_;
  descriptor descriptor_;
  redisAsyncContext* context_ = nullptr;
  std::deque<std::shared_ptr<question>> questions_;  // in the order of their answers
  std::function<void(const std::string*)> heard_;    // of a subscriber
  bool reads_ = false, writes_ = false;
};

}  // namespace detail

/// Sends commands to a Redis, any number at a time, over one connection: opened by the first command, and by the first
/// one after it was lost. No command is sent twice.
///
/// Ignore SIGPIPE, which hiredis raises when Redis has gone; run_worker() does. Distinct objects: safe. Shared objects:
/// unsafe. Must not outlive its execution context.
class client {
 public:
  /// A Redis that has not answered within `limit` counts as lost.
  client(asio::any_io_executor executor, address where, std::chrono::milliseconds limit = std::chrono::seconds(2))
      : executor_(std::move(executor)), where_(std::move(where)), limit_(limit) {}

  client(const client&) = delete;
  client& operator=(const client&) = delete;

  ~client() {
    if (connection_) connection_->close("the client was closed");
  }

  /// Sends a command, each of whose words may hold any bytes, and waits for its answer: command("GET", key).
  ///
  /// The words are copied before it returns. Throws redis::error, here or when awaited. Cancelling throws
  /// operation_aborted; the command may be carried out all the same. Not for SUBSCRIBE and MONITOR, which answer more
  /// than once.
  template <class... Words>
  asio::awaitable<reply> command(const Words&... words) {
    const std::array<std::string_view, sizeof...(Words)> all{std::string_view(words)...};
    if (!connection_ || !connection_->is_open()) {
      connection_ = std::make_shared<detail::connection>(executor_, where_);
    }
    return detail::connection::answer(connection_, connection_->ask(all), limit_);
  }

 private:
  asio::any_io_executor executor_;
  address where_;
  std::chrono::milliseconds limit_;
  std::shared_ptr<detail::connection> connection_;
};

/// Hears what is published on a channel, over a connection of its own, from when Redis has its command until that
/// connection fails: then make another one. Those that next() does not take in time are dropped, the oldest first.
///
/// Distinct objects: safe. Shared objects: unsafe. Must not outlive its execution context.
class subscriber {
 public:
  static constexpr std::size_t longest = 1024;  // messages that wait

  /// Throws redis::error.
  subscriber(const asio::any_io_executor& executor, const address& where, const std::string& channel)
      : news_(executor), connection_(std::make_shared<detail::connection>(executor, where)) {
    connection_->subscribe(channel, [this](const std::string* message) {
      if (message != nullptr) {
        if (waiting_.size() == longest) waiting_.pop_front();
        waiting_.push_back(*message);
      } else {
        ended_ = true;
      }
      news_.notify();
    });
  }

  subscriber(const subscriber&) = delete;
  subscriber& operator=(const subscriber&) = delete;

  ~subscriber() { connection_->close("the subscriber was closed"); }

  /// The next message. Throws redis::error when there is none left and the connection has failed. Cancelling throws
  /// operation_aborted and takes none.
  asio::awaitable<std::string> next() {
    while (waiting_.empty() && !ended_) co_await news_.wait();
    if (waiting_.empty()) throw error(fmt::format("redis {}: {}", connection_->name(), connection_->why()));
    std::string message = std::move(waiting_.front());
    waiting_.pop_front();
    co_return message;
  }

 private:
  cohort::event news_;
  std::deque<std::string> waiting_;
  bool ended_ = false;
  std::shared_ptr<detail::connection> connection_;
};

}  // namespace redis
