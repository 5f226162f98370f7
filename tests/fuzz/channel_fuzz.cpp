// SPDX-License-Identifier: BSL-1.0
// A libFuzzer target: any bytes as what a peer sends. A channel must end in an exception of its own or go on; it must
// not crash, hang, leak, or take memory that the bytes do not account for.
//
// The first byte of an input says what the rest is. Bit 0: a correct hello goes in front, without which few inputs get
// any further. Bit 1: what follows are frames, each u8 kind, u8 handles, u8 size, payload, that get a correct header
// and as many descriptors as they say; otherwise they are the bytes of the stream.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

asio::awaitable<void> receive_all(channel<outgoing, incoming>& from) {
  while (auto message = co_await from.receive()) {
  }
}

asio::awaitable<void> receive_handles(channel<outgoing, incoming>& from) {
  while (auto message = co_await from.receive_handle()) {
  }
}

struct answer_small {
  asio::awaitable<small> operator()(small question) { co_return question; }
};

std::string framed(wire::kind kind, std::string_view payload, std::uint8_t handles = 0) {
  std::string result(wire::header_size, '\0');
  wire::put_header(result.data(), kind, static_cast<std::uint32_t>(payload.size()), handles);
  return result.append(payload);
}

/// The other end of the channel.
class peer {
 public:
  peer(asio::io_context& context, descriptor socket) : context_(context), socket_(std::move(socket)) {}

  void say_hello() {
    byte_buffer hello;
    encode(hello, make_hello<incoming, outgoing>(1 << 20));
    write(framed(wire::kind::hello, hello.view()));
  }

  void write_frames(std::string_view input) {
    while (input.size() >= 3) {
      const auto kind = static_cast<wire::kind>(input[0]);
      const auto handles = static_cast<std::uint8_t>(input[1]);
      const auto payload = input.substr(3, static_cast<unsigned char>(input[2]));
      input.remove_prefix(3 + payload.size());
      write(framed(kind, payload, handles), kind == wire::kind::handles ? handles : 0);
    }
  }

  /// Writes all of it unless the channel does not read any more; the first part goes with `handles` descriptors.
  void write(std::string_view bytes, std::size_t handles = 0) {
    while (!bytes.empty()) {
      const auto sent = write_some(bytes, handles);
      if (sent <= 0 && context_.poll() == 0) return;
      if (sent <= 0) continue;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
      handles = 0;
    }
  }

 private:
  ssize_t write_some(std::string_view bytes, std::size_t handles) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char ancillary[CMSG_SPACE(wire::max_handles * sizeof(int))] = {};
    if (handles != 0) {
      static const descriptor passed(::eventfd(0, EFD_CLOEXEC));
      const std::vector<int> fds(std::min(handles, wire::max_handles), passed.get());
      message.msg_control = ancillary;
      message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    return ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  asio::io_context& context_;
  descriptor socket_;
};

void run(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  asio::io_context context;
  auto ends = make_channel_pair();
  channel_options options;
  options.max_message = 1 << 20;
  channel<outgoing, incoming> mine(context.get_executor(), std::move(ends.first), options);

  const auto swallow = [](std::exception_ptr failure) {
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const std::system_error&) {
      // what a channel throws; anything else ends the run
    }
  };
  asio::co_spawn(context, receive_all(mine), swallow);
  asio::co_spawn(context, receive_handles(mine), swallow);
  asio::co_spawn(context, mine.serve_calls(answer_small()), swallow);
  {
    peer other(context, std::move(ends.second));
    if ((data[0] & 1) != 0) other.say_hello();
    if ((data[0] & 2) != 0) {
      other.write_frames(input);
    } else {
      other.write(input);
    }
  }
  context.run();
}

}  // namespace cohort::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cohort::fuzz::run(data, size);
  return 0;
}
