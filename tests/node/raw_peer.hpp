// SPDX-License-Identifier: BSL-1.0
/// The other end of a Node channel, played by hand: it writes whatever bytes a test wants, and shows those that it
/// gets.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/socket.h>

#include "../../include/cohort/core/descriptor.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/ipc/node/link.hpp"
#include "../support/harness.hpp"

namespace cohort::test {

/// A value from its text; in a coroutine, braces would be an initializer_list.
inline json parsed(std::string_view text) { return json::parse(text.begin(), text.end()); }

class raw_peer {
 public:
  explicit raw_peer(descriptor end) : end_(std::move(end)) {}

  /// Writes all of it in one sendmsg.
  void write(std::string_view bytes, const std::vector<int>& fds = {}) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    std::vector<char> ancillary(CMSG_SPACE(fds.size() * sizeof(int)));
    if (!fds.empty()) {
      message.msg_control = ancillary.data();
      message.msg_controllen = ancillary.size();
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    const auto sent = ::sendmsg(end_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    REQUIRE(sent == static_cast<ssize_t>(bytes.size()));
  }

  /// Writes as much as the socket takes.
  std::size_t write_some(std::string_view bytes) {
    const auto sent = ::send(end_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }

  /// Reads what is there, and keeps the descriptors.
  void read() {
    for (;;) {
      char bytes[65536];
      alignas(cmsghdr) char ancillary[CMSG_SPACE(16 * sizeof(int))];
      iovec part{bytes, sizeof bytes};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = ancillary;
      message.msg_controllen = sizeof ancillary;
      const auto size = ::recvmsg(end_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (size == 0 || (size < 0 && errno == ECONNRESET)) ended_ = true;
      if (size <= 0) return;
      text_.append(bytes, static_cast<std::size_t>(size));
      for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(each), sizeof fd);
        handles.emplace_back(fd);
      }
    }
  }

  /// Waits for a line and takes it.
  asio::awaitable<std::string> line() {
    const bool there = co_await eventually([this] {
      read();
      return text_.find('\n') != text_.npos || ended_;
    });
    CHECK(there);
    const auto end = text_.find('\n');
    std::string result = text_.substr(0, end);
    text_.erase(0, end == text_.npos ? end : end + 1);
    co_return result;
  }

  /// What has arrived and was not taken.
  const std::string& rest() {
    read();
    return text_;
  }

  bool at_end() {
    read();
    return ended_;
  }

  void close() { end_.reset(); }

  std::vector<descriptor> handles;

 private:
  descriptor end_;
  std::string text_;
  bool ended_ = false;
};

/// A link, and its peer played by hand.
struct against_raw_peer {
  explicit against_raw_peer(const asio::any_io_executor& executor, const node_options& options = {})
      : against_raw_peer(executor, make_channel_pair(), options) {}

  against_raw_peer(const asio::any_io_executor& executor, std::pair<descriptor, descriptor> ends,
                   const node_options& options)
      : here(executor, std::move(ends.first), options), there(std::move(ends.second)) {}

  node_link here;
  raw_peer there;
};

/// Two links to each other.
struct linked {
  explicit linked(const asio::any_io_executor& executor, const node_options& options = {})
      : linked(executor, make_channel_pair(), options) {}

  linked(const asio::any_io_executor& executor, std::pair<descriptor, descriptor> ends, const node_options& options)
      : here(executor, std::move(ends.first), options), there(executor, std::move(ends.second), options) {}

  node_link here, there;
};

inline constexpr const char* ack = R"({"cmd":"NODE_HANDLE_ACK"})";
inline constexpr const char* nack = R"({"cmd":"NODE_HANDLE_NACK"})";

/// An envelope as Node writes it.
inline std::string envelope(std::string_view type, std::string_view message, std::string_view more = "") {
  return R"({"cmd":"NODE_HANDLE","type":")" + std::string(type) + R"(","msg":)" + std::string(message) +
         std::string(more) + "}\n";
}

}  // namespace cohort::test
