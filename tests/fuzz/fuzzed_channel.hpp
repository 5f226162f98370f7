// SPDX-License-Identifier: BSL-1.0
/// The channel that the fuzz targets talk to, and what its application does.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <sys/eventfd.h>
#include <sys/socket.h>

#include "../../include/cohort/ipc/channel.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/ipc/transport/sealed_memory.hpp"

namespace cohort::fuzz {

enum class color : std::uint8_t { red, green };

struct tree {
  std::string name;
  std::vector<tree> children;
  std::unique_ptr<tree> left;
};

struct wide {
  bool flag = false;
  color shade = color::red;
  std::optional<std::string> note;
  std::array<std::uint16_t, 3> numbers{};
  std::map<std::string, std::vector<double>> table;
  std::variant<int, std::string, std::monostate> either;
  std::tuple<char, std::chrono::milliseconds> pair;
};

struct small {
  std::uint32_t a = 0, b = 0;
};

struct carrier {
  handle<descriptor> object;
};

using incoming = std::variant<small, wide, tree, carrier, std::vector<std::uint64_t>>;
using outgoing = small;
using fuzzed = channel<outgoing, incoming>;

/// Bytes of the pool that each side lends from.
inline constexpr std::size_t pool_size = 8192;

struct answer_small {
  asio::awaitable<small> operator()(small question) { co_return question; }
};

/// Each of these goes on until the channel has ended.
struct application {
  static asio::awaitable<void> receive_all(fuzzed& from) {
    while (auto message = co_await from.receive()) {
    }
  }

  static asio::awaitable<void> receive_handles(fuzzed& from) {
    while (auto message = co_await from.receive_handle()) {
    }
  }

  /// Reads all that is borrowed, and holds the last three.
  static asio::awaitable<void> receive_loans(fuzzed& from) {
    std::vector<received_loan<incoming, std::uint64_t>> held;
    for (std::uint64_t sum = 0;;) {
      try {
        auto got = co_await from.receive_loan<std::uint64_t>();
        if (!got) co_return;
        for (const std::uint64_t each : got->view) sum += each;
        held.push_back(std::move(*got));
      } catch (const std::system_error& error) {
        const bool is_of_one = error.code() == errc::schema_mismatch || error.code() == errc::unknown_message;
        if (!is_of_one || !from.is_open()) throw;  // a hello may have ended the channel by the same error
      }
      if (sum == 1) held.clear();  // so that the sum is not left out
      if (held.size() > 3) held.erase(held.begin());
    }
  }

  /// Lends all that the pool has, and waits for more.
  static asio::awaitable<void> lend(fuzzed& to) {
    const small what;
    for (std::size_t i = 0;; ++i) {
      auto mine = co_await to.loan<std::uint64_t>(100 + i % 3);
      std::fill(mine.begin(), mine.end(), i);
      co_await to.send(what, std::move(mine));
    }
  }

  static void start(asio::io_context& context, fuzzed& mine) {
    const auto swallow = [](std::exception_ptr failure) {
      try {
        if (failure) std::rethrow_exception(failure);
      } catch (const std::system_error&) {
        // what a channel throws; anything else ends the run
      }
    };
    asio::co_spawn(context, receive_all(mine), swallow);
    asio::co_spawn(context, receive_handles(mine), swallow);
    asio::co_spawn(context, receive_loans(mine), swallow);
    asio::co_spawn(context, lend(mine), swallow);
    asio::co_spawn(context, mine.serve_calls(answer_small()), swallow);
  }
};

inline channel_options fuzzed_options() {
  channel_options options;
  options.max_message = 1 << 20;
  options.loan_pool = pool_size;
  return options;
}

inline std::string framed(wire::kind kind, std::string_view payload, std::uint8_t handles = 0) {
  std::string result(wire::header_size, '\0');
  wire::put_header(result.data(), kind, static_cast<std::uint32_t>(payload.size()), handles);
  return result.append(payload);
}

/// A payload of one number.
inline std::string word(std::uint64_t value) {
  std::string result(8, '\0');
  wire::store(result.data(), value, 8);
  return result;
}

inline std::string hello_frame() {
  byte_buffer hello;
  encode(hello, make_hello<incoming, outgoing>(1 << 20));
  return framed(wire::kind::hello, hello.view());
}

/// What the peer lends from: sealed, and the same in each run.
inline const descriptor& lent_memory() {
  static const descriptor memory = [] {
    descriptor made = detail::make_memory("fuzz", pool_size, "a fuzzer");
    detail::seal_memory(made.get(), false, "a fuzzer");
    return made;
  }();
  return memory;
}

/// Any other descriptor that a peer passes.
inline const descriptor& counter() {
  static const descriptor made(::eventfd(0, EFD_CLOEXEC));
  return made;
}

/// Writes as sendmsg(2) does, with `handles` copies of a descriptor.
inline ssize_t write_some(int socket, std::string_view bytes, std::size_t handles = 0, int object = -1) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char ancillary[CMSG_SPACE(wire::max_handles * sizeof(int))] = {};
  if (handles != 0) {
    const std::vector<int> fds(std::min(handles, wire::max_handles), object);
    message.msg_control = ancillary;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/// The bytes of an input, taken from the front; zeros behind its end.
class input {
 public:
  input(const std::uint8_t* data, std::size_t size) : left_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const noexcept { return left_.empty(); }
  std::string_view rest() const noexcept { return left_; }

  std::string_view take(std::size_t size) {
    const auto result = left_.substr(0, size);
    left_.remove_prefix(result.size());
    return result;
  }

  std::uint64_t number(std::size_t bytes) {
    std::string from(take(bytes));
    from.resize(bytes);
    return wire::load(from.data(), bytes);
  }

 private:
  std::string_view left_;
};

}  // namespace cohort::fuzz
