// SPDX-License-Identifier: BSL-1.0
/// One of two processes that do to each other, at random and all at once, whatever a channel can do.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/core/timeout.hpp"
#include "../../include/cohort/ipc/channel.hpp"

namespace cohort::test::soak {

// Those with a place are numbered, and arrive in order.
struct tiny {
  std::uint32_t place = 0;
};
struct blob {
  std::uint32_t place = 0;
  std::string bytes;
};
struct table {
  std::uint32_t place = 0;
  std::map<std::string, std::vector<std::uint32_t>> rows;
  std::optional<blob> more;
};
struct parcel {
  handle<descriptor> object;
};
struct token {};  ///< with a handle
struct question {
  std::uint32_t number = 0;
};
struct answer {
  std::uint32_t number = 0;
};
struct total {  ///< the last message: how many were numbered
  std::uint32_t messages = 0;
};

using word = std::variant<tiny, blob, table, parcel, token, question, answer, total>;

struct protocol {
  using to_child = word;
  using to_parent = word;
};

/// Bytes that cannot be those of another place, or stand elsewhere.
inline std::string bytes_of(std::uint32_t place, std::size_t size) {
  std::string result(size, '\0');
  std::uint64_t state = place * 0x9e3779b97f4a7c15u + size;
  for (std::size_t at = 0; at < size; at += sizeof state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(result.data() + at, &state, std::min(sizeof state, size - at));
  }
  return result;
}

/// Marks what was given. Who gave it may be gone.
inline void mark(int fd) {
  const std::uint64_t one = 1;
  auto size = ::send(fd, &one, sizeof one, MSG_NOSIGNAL);
  if (size < 0 && errno == ENOTSOCK) size = ::write(fd, &one, sizeof one);
  if (size < 0 && errno != EPIPE) throw_error("mark", errno);
}

/// Something to give away, and what shows that whoever has taken it has marked it.
struct marked {
  explicit marked(unsigned kind) {
    if (kind == 2) {
      int ends[2] = {-1, -1};
      (void)!::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
      object.reset(ends[0]);
      witness.reset(ends[1]);
    } else {
      object.reset(kind == 0 ? ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : ::memfd_create("marked", MFD_CLOEXEC));
      witness.reset(::fcntl(object.get(), F_DUPFD_CLOEXEC, 0));
    }
    if (!object || !witness) throw_error("marked", errno);
  }

  bool is_marked() const {
    std::uint64_t value = 0;
    ::lseek(witness.get(), 0, SEEK_SET);  // which a file shares with who has written
    return ::read(witness.get(), &value, sizeof value) == sizeof value;
  }

  descriptor object, witness;
};

class side {
 public:
  side(channel<word, word>& both, unsigned seed)
      : both_(both),
        chance_(seed),
        active_(both.get_executor()),
        passive_(both.get_executor()),
        over_(both.get_executor()) {}

  /// Goes on until stop() here or there, and then until everything that was begun is done, or until the peer is gone.
  /// Throws what should not be.
  asio::awaitable<void> run() {
    start(passive_, receive());
    start(passive_, take());
    start(passive_, both_.serve_calls(answers()));
    start(active_, send());
    start(active_, give());
    start(active_, give_parcels());
    start(active_, ask());
    co_await active_.wait_empty();
    start(active_, say_total());
    co_await active_.wait_empty();
    co_await over_.wait();
    start(active_, both_.disconnect());
    co_await active_.wait_empty();
    co_await passive_.wait_empty();
    if (failure_) std::rethrow_exception(failure_);
  }

  void stop() { stopping_ = true; }

  std::uint64_t messages() const { return received_; }
  std::uint64_t handles() const { return given_; }

 private:
  struct answers {
    asio::awaitable<answer> operator()(question asked) { co_return answer{asked.number + 1}; }
  };

  static void require(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(what);
  }

  unsigned up_to(unsigned most) { return std::uniform_int_distribution<unsigned>(0, most)(chance_); }

  std::size_t any_size() {
    const unsigned luck = up_to(99);
    return up_to(luck < 60 ? 1000 : luck < 90 ? 64 * 1024 : luck < 98 ? 1024 * 1024 : 8 * 1024 * 1024 - 1000);
  }

  void start(task_group& group, asio::awaitable<void> work) {
    group.start(std::move(work), [this](std::exception_ptr failure) {
      if (!failure) return;
      stopping_ = true;
      over_.set();
      try {
        std::rethrow_exception(failure);
      } catch (const std::system_error& error) {
        if (error.code() == errc::peer_closed) return;
        if (!failure_) failure_ = failure;
      } catch (...) {
        if (!failure_) failure_ = failure;
      }
    });
  }

  asio::awaitable<void> pause() {
    asio::steady_timer timer(both_.get_executor(), std::chrono::microseconds(up_to(2000)));
    co_await timer.async_wait(asio::use_awaitable);
  }

  asio::awaitable<void> send() {
    while (!stopping_) {
      switch (up_to(4)) {
        case 0: {
          const tiny what{sent_++};
          const bool queued = both_.post(what);
          if (!queued) co_await both_.send(what);
          break;
        }
        case 1: {
          std::vector<tiny> many(up_to(500));
          for (tiny& each : many) each.place = sent_++;
          const auto count = co_await both_.send_many(many);
          require(count == many.size(), "send_many has not sent all");
          break;
        }
        case 2: {
          table what;
          what.place = sent_++;
          for (unsigned row = up_to(20); row != 0; --row) {
            what.rows[std::to_string(row)] = std::vector<std::uint32_t>(row, what.place);
          }
          if (up_to(1) == 0) what.more = blob{what.place, bytes_of(what.place, any_size())};
          co_await both_.send(what);
          break;
        }
        default: {
          blob what;
          what.place = sent_++;
          what.bytes = bytes_of(what.place, any_size());
          co_await both_.send(what);
        }
      }
      const bool rest = up_to(9) == 0;
      if (rest) co_await pause();
    }
  }

  asio::awaitable<void> give() {
    while (!stopping_) {
      marked what(up_to(2));
      const token with;
      try {
        co_await both_.send_handle(with, std::move(what.object));
      } catch (const std::system_error&) {
        require(static_cast<bool>(what.object), "a handle that was not taken is gone");
        throw;
      }
      require(!what.object, "a handle that was given away is still here");
      require(what.is_marked(), "a handle was said to be taken, and was not");
      ++given_;
      const bool rest = up_to(3) == 0;
      if (rest) co_await pause();
    }
  }

  asio::awaitable<void> give_parcels() {
    while (!stopping_) {
      marked what(up_to(2));
      parcel with;
      with.object = std::move(what.object);
      try {
        co_await both_.send(with);
      } catch (const std::system_error&) {
        require(static_cast<bool>(with.object), "a handle in a message that was not taken is gone");
        throw;
      }
      require(what.is_marked(), "a message with a handle was said to be taken, and was not");
      ++given_;
      const bool rest = up_to(3) == 0;
      if (rest) co_await pause();
    }
  }

  asio::awaitable<void> ask() {
    for (std::uint32_t number = 0; !stopping_; ++number) {
      const question what{number};
      try {
        auto asking = both_.call<answer>(what);
        const auto limit = up_to(3) == 0 ? std::chrono::microseconds(up_to(2000)) : std::chrono::minutes(1);
        const auto got = co_await with_timeout(std::move(asking), limit);
        require(got.number == number + 1, "another call's answer");
      } catch (const std::system_error& error) {
        if (error.code() != errc::timed_out) throw;
      }
      const bool rest = up_to(3) == 0;
      if (rest) co_await pause();
    }
  }

  asio::awaitable<void> say_total() {
    const total last{sent_};
    co_await both_.send(last);
  }

  asio::awaitable<void> receive() {
    bool complete = false;
    while (auto got = co_await both_.receive()) {
      require(!complete, "a message behind the last one");
      if (const auto* t = std::get_if<tiny>(&*got)) {
        arrived(t->place);
      } else if (const auto* b = std::get_if<blob>(&*got)) {
        arrived(b->place);
        check(*b);
      } else if (const auto* rows = std::get_if<table>(&*got)) {
        arrived(rows->place);
        for (const auto& [name, row] : rows->rows) {
          require(row == std::vector<std::uint32_t>(std::stoul(name), rows->place), "a row has changed");
        }
        if (rows->more) check(*rows->more);
      } else if (const auto* p = std::get_if<parcel>(&*got)) {
        mark(p->object.native_handle());
      } else if (const auto* last = std::get_if<total>(&*got)) {
        require(last->messages == received_, "messages are missing at the end");
        complete = stopping_ = true;
        over_.set();
      }
      const bool rest = up_to(49) == 0;
      if (rest) co_await pause();
    }
    if (!complete) throw_error("receive", errc::peer_closed);
  }

  asio::awaitable<void> take() {
    while (auto got = co_await both_.receive_handle()) {
      mark(got->handle.native_handle());
      const bool rest = up_to(9) == 0;
      if (rest) co_await pause();
    }
  }

  void arrived(std::uint32_t place) { require(place == received_++, "a message is missing, or comes twice"); }

  static void check(const blob& what) {
    require(what.bytes == bytes_of(what.place, what.bytes.size()), "the bytes of a message have changed");
  }

  channel<word, word>& both_;
  std::mt19937 chance_;
  task_group active_;
  task_group passive_;
  event over_;
  std::exception_ptr failure_;
  std::uint32_t sent_ = 0;
  std::uint32_t received_ = 0;
  std::uint64_t given_ = 0;
  bool stopping_ = false;
};

}  // namespace cohort::test::soak
