// SPDX-License-Identifier: BSL-1.0
// A request of HTTP/2 and its response, as its handler sees them. Both wait for the other side, so that little of
// either is here at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include <nghttp2/nghttp2.h>

#include <cohort/cohort.hpp>

namespace h2 {

inline void check(int result) {
  if (result == NGHTTP2_ERR_NOMEM) throw std::bad_alloc();
}

/// A request and its response. When the client has given it up, what its handler waits for ends with operation_aborted.
class exchange {
 public:
  exchange(nghttp2_session* session, std::int32_t id, cohort::event& woken)
      : session_(session), id_(id), woken_(woken), changed_(woken.get_executor()) {}

  const std::string& method() const { return method_; }
  const std::string& path() const { return path_; }

  /// The next piece of the request's body; empty at its end. The client sends more when this has taken what it sent.
  asio::awaitable<std::string> read() {
    while (input_.empty() && !input_ended_) co_await wait();
    std::string piece = std::exchange(input_, {});
    check(nghttp2_session_consume(session_, id_, piece.size()));
    woken_.set();
    co_return piece;
  }

  void respond(int status) {
    std::string name = ":status", value = std::to_string(status);  // which libnghttp2 copies
    const auto bytes = [](std::string& text) { return reinterpret_cast<std::uint8_t*>(text.data()); };
    const nghttp2_nv header{bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
    nghttp2_data_provider body{};
    body.source.ptr = this;
    body.read_callback = &exchange::on_room;
    check(nghttp2_submit_response(session_, id_, &header, 1, method_ == "HEAD" ? nullptr : &body));
    responded_ = true;
    woken_.set();
  }

  /// Returns when no more than a frame of it is still here: as fast as the client reads.
  asio::awaitable<void> write(std::string_view text) {
    constexpr std::size_t most = 16 * 1024;
    while (!text.empty() && method_ != "HEAD") {
      while (output_.size() >= most) co_await wait();
      const auto piece = text.substr(0, most - output_.size());
      output_ += piece;
      text.remove_prefix(piece.size());
      resume();
    }
  }

 private:
  friend class session;

  asio::awaitable<void> wait() {
    waits_for_client_ = true;
    co_await changed_.wait();
    waits_for_client_ = false;
  }

  void resume() {
    nghttp2_session_resume_data(session_, id_);  // fails if it need not be
    woken_.set();
  }

  /// The handler has ended. What more the client sends is dropped.
  void finish(bool failed) {
    finished_ = true;
    if (closed_) return;
    check(nghttp2_session_consume(session_, id_, std::exchange(input_, {}).size()));
    if (failed || !responded_) {
      check(nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id_, NGHTTP2_INTERNAL_ERROR));
    }
    resume();
  }

  /// There is room for `size` bytes: in the client's window, and in the frame that libnghttp2 makes.
  static ssize_t on_room(nghttp2_session*, std::int32_t, std::uint8_t* to, std::size_t size, std::uint32_t* flags,
                         nghttp2_data_source* source, void*) noexcept {
    auto& self = *static_cast<exchange*>(source->ptr);
    if (self.output_.empty() && !self.finished_) return NGHTTP2_ERR_DEFERRED;
    size = std::min(size, self.output_.size());
    std::copy_n(self.output_.begin(), size, to);
    self.output_.erase(0, size);
    if (self.output_.empty() && self.finished_) *flags |= NGHTTP2_DATA_FLAG_EOF;
    self.changed_.notify();
    return static_cast<ssize_t>(size);
  }

  nghttp2_session* const session_;
  const std::int32_t id_;
  cohort::event& woken_;   // the session's
  cohort::event changed_;  // by the client
  std::weak_ptr<asio::cancellation_signal> handler_;
  std::string method_, path_, input_, output_;
  std::size_t headers_ = 0;
  bool input_ended_ = false, responded_ = false, finished_ = false, closed_ = false, waits_for_client_ = false;
};

}  // namespace h2
