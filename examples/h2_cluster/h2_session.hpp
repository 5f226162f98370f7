// SPDX-License-Identifier: BSL-1.0
// HTTP/2 of one connection by libnghttp2, on any stream of Asio's. Each request has a coroutine of its own.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <nghttp2/nghttp2.h>
#include <asio/write.hpp>

#include <cohort/cohort.hpp>

#include "h2_exchange.hpp"

namespace h2 {

struct limits {
  std::uint32_t streams = 100;             // requests of one connection at a time
  std::uint32_t headers = 16 * 1024;       // bytes of those of one request
  std::chrono::milliseconds idle{60'000};  // for which nothing moves, and it is the client's turn
};

class session {
 public:
  using handler = std::function<asio::awaitable<void>(exchange&)>;

  session(cohort::worker& self, const limits& most, handler handle)
      : self_(self),
        limits_(most),
        handle_(std::move(handle)),
        woken_(self.get_executor()),
        patience_(self.get_executor()),
        handlers_(self.get_executor()) {
    static const callbacks all;
    nghttp2_session* made = nullptr;
    check(nghttp2_session_server_new2(&made, all.functions, this, all.option));
    session_.reset(made);
    const std::array settings = {
        nghttp2_settings_entry{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits_.streams},
        nghttp2_settings_entry{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits_.headers},
    };
    check(nghttp2_submit_settings(made, NGHTTP2_FLAG_NONE, settings.data(), settings.size()));
  }

  /// Serves a connection until one side has ended it; does not close it.
  template <class Stream>
  asio::awaitable<void> run(Stream& stream) {
    cohort::task_group beside(self_.get_executor());
    beside.start(read(stream));
    beside.start(leave());
    beside.start(watch(stream));
    std::exception_ptr failure;
    try {
      co_await write(stream);
    } catch (...) {
      if (!over_) failure = std::current_exception();
    }
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await handlers_.cancel_and_wait();
    co_await beside.cancel_and_wait();
    if (failure) std::rethrow_exception(failure);
  }

 private:
  using clock = std::chrono::steady_clock;

  template <class Stream>
  asio::awaitable<void> read(Stream& stream) {
    std::array<std::uint8_t, 16 * 1024> bytes;
    std::error_code error;
    while (!over_) {
      const std::size_t size =
          co_await stream.async_read_some(asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
      moved_ = clock::now();
      if (error || nghttp2_session_mem_recv(session_.get(), bytes.data(), size) < 0) hang_up(stream);
      woken_.set();
    }
  }

  template <class Stream>
  asio::awaitable<void> write(Stream& stream) {
    std::string output;
    while (!over_) {
      woken_.reset();
      take_output(output);
      if (!output.empty()) {
        co_await asio::async_write(stream, asio::buffer(output), asio::use_awaitable);
        output.clear();
        moved_ = clock::now();
      } else if (nghttp2_session_want_read(session_.get()) != 0 || nghttp2_session_want_write(session_.get()) != 0) {
        co_await woken_.wait();
      } else {
        co_return;
      }
    }
  }

  void take_output(std::string& output) {
    constexpr std::size_t enough = 64 * 1024;
    while (output.size() < enough) {
      const std::uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_.get(), &data);
      if (size < 0) throw std::system_error(asio::error::connection_aborted);
      if (size == 0) return;
      output.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size));
    }
  }

  /// When the worker drains, the client is told so, and then which request was the last. In between it answers a ping:
  /// by then all has come that it sent before it knew. When the last request is answered, the session wants no more.
  asio::awaitable<void> leave() {
    co_await self_.until_draining();
    check(nghttp2_submit_shutdown_notice(session_.get()));
    woken_.set();
    patience_.expires_after(std::chrono::seconds(5));
    std::error_code heard;
    co_await patience_.async_wait(asio::redirect_error(asio::use_awaitable, heard));
    last_ = nghttp2_session_get_last_proc_stream_id(session_.get());
    check(nghttp2_submit_goaway(session_.get(), NGHTTP2_FLAG_NONE, last_, NGHTTP2_NO_ERROR, nullptr, 0));
    woken_.set();
  }

  template <class Stream>
  asio::awaitable<void> watch(Stream& stream) {
    asio::steady_timer timer(self_.get_executor());
    while (clock::now() < moved_ + limits_.idle) {
      timer.expires_at(moved_ + limits_.idle);
      co_await timer.async_wait(asio::use_awaitable);
      const bool busy = std::any_of(exchanges_.begin(), exchanges_.end(), [](const auto& each) {
        return !each.second->waits_for_client_ && !each.second->finished_;
      });
      if (busy) moved_ = clock::now();
    }
    check(nghttp2_session_terminate_session(session_.get(), NGHTTP2_NO_ERROR));
    woken_.set();
    timer.expires_after(std::chrono::seconds(1));
    co_await timer.async_wait(asio::use_awaitable);
    hang_up(stream);
  }

  template <class Stream>
  void hang_up(Stream& stream) {
    over_ = true;
    std::error_code ignored;
    stream.lowest_layer().cancel(ignored);
    woken_.set();
  }

  /// What the system or the client does to a request is that request's end; anything else is the worker's.
  asio::awaitable<void> answer(std::shared_ptr<exchange> each) {
    bool failed = true;
    try {
      co_await handle_(*each);
      failed = false;
    } catch (const std::system_error&) {
    } catch (...) {
      self_.on_exception(std::current_exception());
    }
    each->finish(failed);
  }

  static session& at(void* self) { return *static_cast<session*>(self); }

  static exchange* find(nghttp2_session* session, const nghttp2_frame_hd& frame) {
    return static_cast<exchange*>(nghttp2_session_get_stream_user_data(session, frame.stream_id));
  }

  static int on_begin(nghttp2_session* session, const nghttp2_frame* frame, void* data) noexcept {
    auto& self = at(data);
    const auto id = frame->hd.stream_id;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST || id > self.last_) return 0;
    // Of the streams that were reset there are handlers still, which have not noticed.
    if (self.handlers_.size() >= 2 * self.limits_.streams) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const auto made = std::make_shared<exchange>(session, id, self.woken_);
    self.exchanges_.emplace(id, made);
    return nghttp2_session_set_stream_user_data(session, id, made.get());
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t* name,
                       std::size_t name_size, const std::uint8_t* value, std::size_t value_size, std::uint8_t,
                       void* data) noexcept {
    exchange* const each = find(session, frame->hd);
    if (each == nullptr) return 0;
    each->headers_ += name_size + value_size + 32;
    if (each->headers_ > at(data).limits_.headers) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const std::string_view key(reinterpret_cast<const char*>(name), name_size);
    if (key == ":method") each->method_.assign(reinterpret_cast<const char*>(value), value_size);
    if (key == ":path") each->path_.assign(reinterpret_cast<const char*>(value), value_size);
    return 0;
  }

  static int on_data(nghttp2_session* session, std::uint8_t, std::int32_t id, const std::uint8_t* bytes,
                     std::size_t size, void*) noexcept {
    auto* const each = static_cast<exchange*>(nghttp2_session_get_stream_user_data(session, id));
    if (each == nullptr || each->finished_) return nghttp2_session_consume(session, id, size);
    each->input_.append(reinterpret_cast<const char*>(bytes), size);
    each->changed_.notify();
    return 0;
  }

  static int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* data) noexcept {
    auto& self = at(data);
    const auto& head = frame->hd;
    if (head.type == NGHTTP2_PING && (head.flags & NGHTTP2_FLAG_ACK) != 0) self.patience_.cancel();
    exchange* const each = find(session, head);
    if (each == nullptr || (head.type != NGHTTP2_HEADERS && head.type != NGHTTP2_DATA)) return 0;
    if ((head.flags & NGHTTP2_FLAG_END_STREAM) != 0) each->input_ended_ = true;
    each->changed_.notify();
    if (head.type == NGHTTP2_DATA || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    auto work = self.answer(self.exchanges_.at(head.stream_id));
    each->handler_ = self.handlers_.start(std::move(work), cohort::ignored("without memory to end it, it is idle"));
    return 0;
  }

  /// The ping goes after the notice: libnghttp2 would send it before.
  static int on_sent(nghttp2_session* session, const nghttp2_frame* frame, void*) noexcept {
    if (frame->hd.type != NGHTTP2_GOAWAY || frame->goaway.last_stream_id != INT32_MAX) return 0;
    return nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, nullptr);
  }

  static int on_close(nghttp2_session* session, std::int32_t id, std::uint32_t, void* data) noexcept {
    const auto found = at(data).exchanges_.extract(id);
    if (found.empty()) return 0;
    exchange& each = *found.mapped();
    each.closed_ = true;
    const std::size_t size = std::exchange(each.input_, {}).size();
    if (const auto running = each.handler_.lock()) running->emit(asio::cancellation_type::terminal);
    return nghttp2_session_consume_connection(session, size);
  }

  /// The same for all sessions, and for good. They are noexcept, because libnghttp2 is C: without memory a worker ends.
  struct callbacks {
    callbacks() {
      check(nghttp2_session_callbacks_new(&functions));
      nghttp2_session_callbacks_set_on_begin_headers_callback(functions, &session::on_begin);
      nghttp2_session_callbacks_set_on_header_callback(functions, &session::on_header);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(functions, &session::on_data);
      nghttp2_session_callbacks_set_on_frame_recv_callback(functions, &session::on_frame);
      nghttp2_session_callbacks_set_on_frame_send_callback(functions, &session::on_sent);
      nghttp2_session_callbacks_set_on_stream_close_callback(functions, &session::on_close);
      check(nghttp2_option_new(&option));
      nghttp2_option_set_no_auto_window_update(option, 1);  // exchange::read() opens the windows
    }

    nghttp2_session_callbacks* functions = nullptr;
    nghttp2_option* option = nullptr;
  };

  cohort::worker& self_;
  const limits limits_;
  const handler handle_;
  cohort::event woken_;          // there is something to write, or an end
  asio::steady_timer patience_;  // until the client should have heard that the worker drains
  std::unique_ptr<nghttp2_session, decltype(&nghttp2_session_del)> session_{nullptr, &nghttp2_session_del};
  std::map<std::int32_t, std::shared_ptr<exchange>> exchanges_;
  cohort::task_group handlers_;
  std::int32_t last_ = INT32_MAX;  // request that is answered
  clock::time_point moved_ = clock::now();
  bool over_ = false;
};

}  // namespace h2
