// SPDX-License-Identifier: BSL-1.0
// A large message is under way, and the rest of the world goes on.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../include/cohort/ipc/peer.hpp"
#include "../process/children.hpp"
#include "../support/fault.hpp"
#include "over_transport.hpp"
#include "raw_end.hpp"

namespace cohort::test::bulk_test {
namespace {

/// Counts turns of the loop until `over`.
asio::awaitable<void> count_turns(const bool& over, int& turns) {
  while (!over) {
    co_await yield();
    ++turns;
  }
}

asio::awaitable<void> take_handles(channel<text, number>& from, const std::size_t& sent,
                                   std::vector<std::size_t>& when) {
  while (auto got = co_await from.receive_handle()) when.push_back(sent);
}

// The size in MiB may be given, 512 say, which takes too long for every day.
ASYNC_TEST("handles are given and taken while a large message goes the other way") {
  const char* const given = std::getenv("COHORT_BULK_MIB");
  const std::size_t size = (given != nullptr ? std::stoul(given) : 64) * 1024 * 1024;
  const auto executor = co_await asio::this_coro::executor;
  channel_options options;
  options.max_message = 1 << 30;
  auto child = co_await spawn<sums>(helper("ipc-bulk"), over_transport(options));

  std::size_t sent = 0;
  const intercept<&system::calls::sendmsg> counting([&](auto real, int fd, const msghdr* message, int flags) {
    const auto result = real(fd, message, flags);
    if (result > 0) sent += static_cast<std::size_t>(result);
    return result;
  });
  std::vector<std::size_t> when;
  outcome_of<void> taking(executor, take_handles(child, sent, when));
  text bulk;
  bulk.value.assign(size - 6, 'x');
  co_await child.send(bulk);
  const auto taken = co_await child.receive();

  // Each is given when the child knows that the one before was taken, which it hears between the pieces.
  REQUIRE(when.size() > 10);
  CHECK(when[10] < size / 2);
  CHECK(taken.value().value >= 10);
  co_await child.disconnect();
  co_await taking.get();
  const auto status = co_await child.wait();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("who sends to a peer that reads as fast as it is written to lets others run") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  const intercept<&system::calls::sendmsg> bottomless([](auto, int, const msghdr* message, int) {
    ssize_t taken = 0;
    for (std::size_t i = 0; i < message->msg_iovlen; ++i) taken += static_cast<ssize_t>(message->msg_iov[i].iov_len);
    return taken;
  });
  bool over = false;
  int turns = 0;
  outcome_of<void> counting(executor, count_turns(over, turns));
  const text bulk = text_of_size(16 * 1024 * 1024);
  co_await both.here.send(bulk);
  over = true;
  CHECK(turns > 10);
  co_await counting.get();
}

ASYNC_TEST("who receives from a peer that writes as fast as it is read from lets others run") {
  const auto executor = co_await asio::this_coro::executor;
  const text bulk = text_of_size(16 * 1024 * 1024);
  const std::string payload = payload_of(1, bulk);
  std::string stream = talking_hello();
  for (std::size_t at = 0; at < payload.size(); at += wire::max_frame) {
    const bool last = payload.size() - at <= wire::max_frame;
    stream += frame(last ? wire::kind::message : wire::kind::piece, payload.substr(at, wire::max_frame));
  }
  std::size_t read = 0;
  const intercept<&system::calls::recvmsg> endless([&](auto, int, msghdr* message, int) {
    const auto before = read;
    for (std::size_t i = 0; i < message->msg_iovlen; ++i) {
      const auto size = std::min(message->msg_iov[i].iov_len, stream.size() - read);
      std::memcpy(message->msg_iov[i].iov_base, stream.data() + read, size);
      read += size;
    }
    message->msg_controllen = 0;
    message->msg_flags = 0;
    return static_cast<ssize_t>(read - before);
  });
  against_raw<> both(executor);
  bool over = false;
  int turns = 0;
  outcome_of<void> counting(executor, count_turns(over, turns));
  const auto got = co_await both.here.receive();
  over = true;
  CHECK(turns > 5);
  const bool whole = std::get<text>(got.value()).value == bulk.value;
  CHECK(whole);
  co_await counting.get();
}

}  // namespace
}  // namespace cohort::test::bulk_test
