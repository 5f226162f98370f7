// SPDX-License-Identifier: BSL-1.0
// The server's end of a WebSocket (RFC 6455): wslay does the frames, this does the reading and writing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <sys/types.h>
#include <wslay/wslay.h>

#include <asio/write.hpp>
#include <cohort/core/asio.hpp>
#include <cohort/core/event.hpp>

namespace web {

using asio::ip::tcp;

/// The answer to a request with this Sec-WebSocket-Key, from which on the connection is a WebSocket.
inline std::string handshake(std::string_view key) {
  const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest;
  std::array<unsigned char, 29> accept;  // 28 characters of base64 and a zero
  ::SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  ::EVP_EncodeBlock(accept.data(), digest.data(), static_cast<int>(digest.size()));
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
         std::string(reinterpret_cast<const char*>(accept.data())) + "\r\n\r\n";
}

enum class close_code : std::uint16_t {
  unsupported = 1003,
  policy = 1008,
  failed = 1011,
  restart = 1012,
  later = 1013
};

/// One coroutine may receive while another one writes: what is queued is written by flush() alone.
class socket {
 public:
  /// `input` is what has come after the request.
  socket(tcp::socket& under, std::string_view input) : under_(under), woken_(under.get_executor()) {
    wslay_event_callbacks calls{};
    calls.recv_callback = on_read;
    calls.send_callback = on_write;
    calls.on_msg_recv_callback = on_message;
    wslay_event_context_ptr made = nullptr;
    if (::wslay_event_context_server_init(&made, &calls, this) != 0) throw std::bad_alloc();
    frames_.reset(made);
    constexpr std::uint64_t longest = 8192;
    ::wslay_event_config_set_max_recv_msg_length(made, longest);
    feed(input);
  }

  socket(const socket&) = delete;
  socket& operator=(const socket&) = delete;

  /// The next message; none when the other end has closed the WebSocket, or broken its rules.
  asio::awaitable<std::optional<std::string>> receive() {
    while (messages_.empty() && ::wslay_event_want_read(frames_.get()) != 0) {
      std::array<char, 4096> bytes;
      const std::size_t size = co_await under_.async_read_some(asio::buffer(bytes), asio::use_awaitable);
      feed({bytes.data(), size});
    }
    std::optional<std::string> result;
    if (messages_.empty()) co_return result;
    result = std::move(messages_.front());
    messages_.pop_front();
    co_return result;
  }

  void send(std::string_view text) {
    const wslay_event_msg message{WSLAY_TEXT_FRAME, reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
    ::wslay_event_queue_msg(frames_.get(), &message);  // refused after close(): the other end will not read it
    wake();
  }

  /// Says why this end goes. The other end answers by closing, too, and receive() ends.
  void close(close_code why, std::string_view reason) {
    ::wslay_event_queue_close(frames_.get(), static_cast<std::uint16_t>(why),
                              reinterpret_cast<const std::uint8_t*>(reason.data()), reason.size());
    wake();
  }

  /// Ends it without a word: receive() throws, and what waits for the other end does.
  void hang_up() {
    std::error_code ignored;
    under_.shutdown(tcp::socket::shutdown_both, ignored);
    wake();
  }

  bool wants_write() const { return ::wslay_event_want_write(frames_.get()) != 0; }
  bool close_sent() const { return ::wslay_event_get_close_sent(frames_.get()) != 0; }

  asio::awaitable<void> flush() {
    std::string output;
    output_ = &output;
    ::wslay_event_send(frames_.get());
    output_ = nullptr;
    co_await asio::async_write(under_, asio::buffer(output), asio::use_awaitable);
  }

  /// Waits until there may be something to write.
  asio::awaitable<void> woken() { return woken_.wait(); }
  void wake() { woken_.notify(); }

 private:
  static socket& of(void* self) { return *static_cast<socket*>(self); }

  static ssize_t on_read(wslay_event_context_ptr frames, std::uint8_t* buffer, std::size_t size, int, void* self) {
    auto& input = of(self).input_;
    if (input.empty()) {
      ::wslay_event_set_error(frames, WSLAY_ERR_WOULDBLOCK);
      return -1;
    }
    const std::size_t taken = input.copy(reinterpret_cast<char*>(buffer), size);
    input.remove_prefix(taken);
    return static_cast<ssize_t>(taken);
  }

  static ssize_t on_write(wslay_event_context_ptr, const std::uint8_t* data, std::size_t size, int, void* self) {
    of(self).output_->append(reinterpret_cast<const char*>(data), size);
    return static_cast<ssize_t>(size);
  }

  static void on_message(wslay_event_context_ptr, const wslay_event_on_msg_recv_arg* what, void* self) {
    if (what->opcode == WSLAY_BINARY_FRAME) of(self).close(close_code::unsupported, "text only");
    if (what->opcode != WSLAY_TEXT_FRAME) return;  // wslay answers pings and closes
    of(self).messages_.emplace_back(reinterpret_cast<const char*>(what->msg), what->msg_length);
  }

  void feed(std::string_view bytes) {
    input_ = bytes;
    ::wslay_event_recv(frames_.get());  // what breaks the rules is answered by a close, and no more is read
    if (wants_write()) wake();
  }

  struct freed {
    void operator()(wslay_event_context_ptr frames) const { ::wslay_event_context_free(frames); }
  };

  tcp::socket& under_;
  std::unique_ptr<wslay_event_context, freed> frames_;
  cohort::event woken_;
  std::string_view input_;
  std::string* output_ = nullptr;
  std::deque<std::string> messages_;
};

}  // namespace web
