// SPDX-License-Identifier: BSL-1.0
/// The other end of a channel, played by hand: it writes whatever bytes a test wants, and shows those that it gets.
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/socket.h>

#include "channels.hpp"

namespace cohort::test {

/// `value` in `bytes` bytes, the lowest first.
inline std::string little(std::uint64_t value, std::size_t bytes) {
  std::string result(bytes, '\0');
  wire::store(result.data(), value, bytes);
  return result;
}

inline std::string frame(wire::kind kind, std::string_view payload = {}, std::uint8_t handles = 0) {
  std::string result(wire::header_size, '\0');
  wire::put_header(result.data(), kind, static_cast<std::uint32_t>(payload.size()), handles);
  return result.append(payload);
}

/// The encoding of a message with the number of its type in front.
template <class M>
std::string payload_of(std::uint16_t type, const M& message) {
  byte_buffer to;
  encode(to, message);
  return little(type, 2).append(to.view());
}

inline std::string number_payload(std::uint64_t value) { return payload_of(0, number{value}); }

inline std::string lease_frame(std::uint64_t id, handle_kind kind, std::string_view message) {
  return frame(wire::kind::lease, little(id, 8) + little(static_cast<std::uint64_t>(kind), 1).append(message), 1);
}

template <class Out, class In>
std::string hello_frame(std::uint32_t max_message = 64 * 1024 * 1024) {
  byte_buffer to;
  encode(to, make_hello<Out, In>(max_message));
  return frame(wire::kind::hello, to.view());
}

inline std::string talking_hello() { return hello_frame<any_message, any_message>(); }

class raw_end {
 public:
  explicit raw_end(descriptor end) : end_(std::move(end)) {}

  void write(std::string_view bytes, const std::vector<int>& handles = {}) { REQUIRE(try_write(bytes, handles)); }

  /// Writes all of it, or nothing when the socket has no room.
  bool try_write(std::string_view bytes, const std::vector<int>& handles) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    std::vector<char> ancillary(CMSG_SPACE(handles.size() * sizeof(int)));
    if (!handles.empty()) {
      message.msg_control = ancillary.data();
      message.msg_controllen = ancillary.size();
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(handles.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), handles.data(), handles.size() * sizeof(int));
    }
    const auto sent = ::sendmsg(end_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    REQUIRE((sent < 0 || sent == static_cast<ssize_t>(bytes.size())));
    return sent >= 0;
  }

  void shut_down_writing() { ::shutdown(end_.get(), SHUT_WR); }

  /// The frames that have come, without the hello; descriptors are closed.
  std::vector<std::pair<wire::kind, std::string>> frames() {
    read();
    std::vector<std::pair<wire::kind, std::string>> result;
    while (bytes_.size() >= wire::header_size) {
      const auto header = wire::get_header(bytes_.data());
      if (bytes_.size() < wire::header_size + header.size) break;
      if (header.kind != wire::kind::hello) {
        result.emplace_back(header.kind, bytes_.substr(wire::header_size, header.size));
      }
      bytes_.erase(0, wire::header_size + header.size);
    }
    return result;
  }

  /// The first descriptor that comes, one alone. What comes before it is dropped.
  descriptor next_descriptor() {
    alignas(cmsghdr) std::array<char, 64> control{};
    std::array<char, 4096> bytes;
    for (;;) {
      iovec part{bytes.data(), bytes.size()};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      REQUIRE(::recvmsg(end_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0);
      if (message.msg_controllen == 0) continue;
      int came = -1;
      std::memcpy(&came, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof came);
      return descriptor(came);
    }
  }

  /// Whether the other side has closed the connection.
  bool at_end() {
    read();
    return at_end_;
  }

  void close() { end_.reset(); }
  int native_handle() const noexcept { return end_.get(); }

 private:
  void read() {
    char bytes[4096];
    ssize_t got;
    while ((got = ::recv(end_.get(), bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
      bytes_.append(bytes, static_cast<std::size_t>(got));
    }
    if (got == 0 || errno == ECONNRESET) at_end_ = true;
  }

  descriptor end_;
  std::string bytes_;
  bool at_end_ = false;
};

/// A channel and its other end.
template <class Out = any_message, class In = any_message>
struct against_raw {
  explicit against_raw(const asio::any_io_executor& executor, const channel_options& options = {})
      : against_raw(executor, make_channel_pair(), options) {}

  channel<Out, In> here;
  raw_end there;

 private:
  against_raw(const asio::any_io_executor& executor, std::pair<descriptor, descriptor> ends,
              const channel_options& options)
      : here(executor, std::move(ends.first), options), there(std::move(ends.second)) {}
};

}  // namespace cohort::test
