// SPDX-License-Identifier: BSL-1.0
// Everything at once, by chance: senders that are cancelled, handles, a kernel that refuses and takes half of what it
// is given. Whatever happens, each message and each handle must be where the two sides think that it is.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <sys/eventfd.h>

#include "../../include/cohort/core/timeout.hpp"
#include "../support/fault.hpp"
#include "channels.hpp"

namespace cohort::test::storm_test {

/// The `place`-th thing that a sender has sent.
struct numbered {
  std::uint32_t sender = 0, place = 0;
  std::string padding;
};

namespace {

using end = channel<numbered, numbered>;

class storm {
 public:
  storm(const asio::any_io_executor& executor, unsigned seed)
      : executor_(executor), chance_(seed), both_(executor, few(), few()) {}

  asio::awaitable<void> blow() {
    for (std::uint32_t sender = 0; sender < 4; ++sender) {
      senders_.push_back(std::make_unique<outcome_of<void>>(executor_, send(both_.here, sender)));
      senders_.push_back(std::make_unique<outcome_of<void>>(executor_, send(both_.there, 10 + sender)));
      senders_.push_back(std::make_unique<outcome_of<void>>(executor_, give(both_.here, 20 + sender)));
      senders_.push_back(std::make_unique<outcome_of<void>>(executor_, give(both_.there, 30 + sender)));
    }
    for (auto* side : {&both_.here, &both_.there}) {
      for (int i = 0; i < 2; ++i) {
        receivers_.push_back(std::make_unique<outcome_of<void>>(executor_, receive(*side)));
        receivers_.push_back(std::make_unique<outcome_of<void>>(executor_, take(*side)));
      }
    }
    for (const auto& each : senders_) co_await each->get();
    co_await both_.here.disconnect();
    co_await both_.there.disconnect();
    for (const auto& each : receivers_) co_await each->get();
    check();
  }

 private:
  static channel_options few() {
    channel_options result;
    result.max_leases = 3;
    result.high_water = 100'000;
    return result;
  }

  unsigned up_to(unsigned most) { return std::uniform_int_distribution<unsigned>(0, most)(chance_); }

  numbered make(std::uint32_t sender, std::uint32_t place) {
    numbered result;
    result.sender = sender;
    result.place = place;
    const unsigned sizes[] = {0, 10, 1000, 17'000, 140'000};
    result.padding.assign(up_to(sizes[up_to(4)]), static_cast<char>(place));
    return result;
  }

  /// Awaits an operation and cancels it after a few turns, or not at all; whether it has completed.
  asio::awaitable<bool> perhaps_cancelled(asio::awaitable<void> operation) {
    const auto signal = std::make_shared<asio::cancellation_signal>();
    const auto running = std::make_shared<bool>(true);
    if (up_to(2) == 0)
      asio::co_spawn(executor_, cancel_later(signal, running, static_cast<int>(up_to(8))), asio::detached);
    bool completed = true;
    try {
      co_await asio::co_spawn(executor_, std::move(operation),
                              asio::bind_cancellation_slot(signal->slot(), asio::use_awaitable));
    } catch (...) {
      if (detail::caught().code() != operation_aborted()) throw;
      completed = false;
    }
    *running = false;
    co_return completed;
  }

  static asio::awaitable<void> cancel_later(std::shared_ptr<asio::cancellation_signal> signal,
                                            std::shared_ptr<bool> running, int turns) {
    co_await yield(turns);
    if (*running) signal->emit(asio::cancellation_type::terminal);
  }

  asio::awaitable<void> send(end& side, std::uint32_t sender) {
    for (std::uint32_t place = 0; place < 60; ++place) {
      const numbered message = make(sender, place);
      bool sent = false;
      if (up_to(2) == 0) {
        sent = side.post(message);
      } else {
        sent = co_await perhaps_cancelled(side.send(message));
      }
      if (sent) sent_[sender].push_back(place);
      if (up_to(3) == 0) co_await yield(static_cast<int>(up_to(5)));
    }
  }

  asio::awaitable<void> give(end& side, std::uint32_t sender) {
    for (std::uint32_t place = 0; place < 30; ++place) {
      numbered message = make(sender, place);
      message.padding.resize(std::min<std::size_t>(message.padding.size(), 1000));
      descriptor object(::eventfd(sender * 1000 + place + 1, EFD_CLOEXEC | EFD_NONBLOCK));
      const bool given = co_await perhaps_cancelled(side.send_handle(message, std::move(object)));
      CHECK(static_cast<bool>(object) == !given);
      (given ? given_ : kept_)[sender].push_back(place);
    }
  }

  asio::awaitable<void> receive(end& side) {
    while (auto message = co_await side.receive()) {
      const bool whole = message->padding.find_first_not_of(static_cast<char>(message->place)) == std::string::npos;
      CHECK(whole);
      received_[message->sender].push_back(message->place);
      if (up_to(5) == 0) co_await yield(static_cast<int>(up_to(3)));
    }
  }

  asio::awaitable<void> take(end& side) {
    while (auto got = co_await side.receive_handle()) {
      eventfd_t value = 0;
      ::eventfd_read(got->handle.native_handle(), &value);
      CHECK(value == got->message.sender * 1000 + got->message.place + 1);
      taken_[got->message.sender].push_back(got->message.place);
      if (up_to(5) == 0) co_await yield(static_cast<int>(up_to(3)));
    }
  }

  // Two receivers beside each other may note what they get in another order.
  static std::vector<std::uint32_t> sorted(std::vector<std::uint32_t> places) {
    std::sort(places.begin(), places.end());
    return places;
  }

  void check() {
    for (auto& [sender, places] : sent_) CHECK(sorted(received_[sender]) == places);
    CHECK(sent_.size() == 8);
    for (auto& [sender, places] : taken_) {
      auto own = given_[sender];
      const auto& crossed = kept_[sender];  // cancelled in the moment in which they were taken
      for (const auto each : sorted(places)) {
        const auto at = std::find(own.begin(), own.end(), each);
        if (at != own.end()) {
          own.erase(at);
        } else {
          CHECK(std::count(crossed.begin(), crossed.end(), each) == 1);
        }
      }
      CHECK(own.empty());
    }
    CHECK(taken_.size() == 8);
  }

  asio::any_io_executor executor_;
  std::mt19937 chance_;
  connected<numbered, numbered> both_;
  std::map<std::uint32_t, std::vector<std::uint32_t>> sent_, received_, given_, kept_, taken_;
  std::vector<std::unique_ptr<outcome_of<void>>> senders_, receivers_;
};

ASYNC_TEST("in a storm everything arrives once") {
  const auto executor = co_await asio::this_coro::executor;
  for (unsigned seed = 0; seed < 5; ++seed) {
    storm one(executor, seed);
    co_await one.blow();
  }
}

ASYNC_TEST("in a storm over a kernel that refuses, everything arrives once") {
  const auto executor = co_await asio::this_coro::executor;
  for (unsigned seed = 100; seed < 105; ++seed) {
    std::mt19937 chance(seed);
    const intercept<&system::calls::sendmsg> sending([&](auto real, int fd, const msghdr* message, int flags) {
      const int errors[] = {EAGAIN, EINTR, ENOBUFS, ETOOMANYREFS};
      const auto luck = chance() % 8;
      if (luck < 2) {
        errno = errors[chance() % 4];
        return ssize_t{-1};
      }
      msghdr part = *message;
      iovec first = message->msg_iov[0];
      if (luck < 5) {
        first.iov_len = std::min<std::size_t>(first.iov_len, 1 + chance() % 2000);
        part.msg_iov = &first;
        part.msg_iovlen = 1;
      }
      return real(fd, &part, flags);
    });
    const intercept<&system::calls::recvmsg> receiving([&](auto real, int fd, msghdr* message, int flags) {
      const int errors[] = {EAGAIN, EINTR, ENOMEM};
      const auto luck = chance() % 8;
      if (luck == 0) {
        errno = errors[chance() % 3];
        return ssize_t{-1};
      }
      const std::size_t whole = message->msg_iov[0].iov_len;
      const auto parts = message->msg_iovlen;
      if (luck < 4) {
        message->msg_iov[0].iov_len = std::min<std::size_t>(whole, 1 + chance() % 3000);
        message->msg_iovlen = 1;
      }
      const auto got = real(fd, message, flags);
      message->msg_iov[0].iov_len = whole;
      message->msg_iovlen = parts;
      return got;
    });
    storm one(executor, seed);
    co_await one.blow();
  }
}

}  // namespace
}  // namespace cohort::test::storm_test
