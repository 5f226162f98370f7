// SPDX-License-Identifier: BSL-1.0
// A peer that sends more and more of what nobody takes, or has answered what it does not read: it stops being read, and
// costs a bounded amount of memory and descriptors.
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <sys/socket.h>

#include "channels.hpp"
#include "raw_end.hpp"

namespace cohort::test::flood_test {
namespace {

using wire::kind;

/// Writes as much of `bytes` as the channel takes in; how much that is.
asio::awaitable<std::size_t> flood(int socket, std::string_view bytes) {
  std::size_t written = 0;
  for (int refused = 0; written != bytes.size() && refused < 5;) {
    const auto part = bytes.substr(written, 60'000);
    const auto sent = ::send(socket, part.data(), part.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) written += static_cast<std::size_t>(sent);
    refused = sent > 0 ? 0 : refused + 1;
    co_await yield(4);  // the channel reads
  }
  co_return written;
}

/// Reads and drops what the channel has written, until `done()`.
template <class Done>
asio::awaitable<bool> drain(int socket, Done done) {
  std::vector<char> bytes(1 << 20);
  co_return co_await eventually([&] {
    while (::recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
    }
    return done();
  });
}

std::string request(std::uint64_t id, std::string_view question) {
  const auto type = static_cast<std::uint64_t>(wire::envelope::request);
  return frame(kind::message, little(type, 2) + little(id, 8).append(question));
}

/// `count` handles, with the numbers behind `last`.
std::string leases_after(std::uint64_t last, std::uint8_t count) {
  std::string result = frame(kind::handles, {}, count);
  for (std::uint64_t id = last + 1; id <= last + count; ++id) {
    result += lease_frame(id, handle_kind::descriptor, number_payload(id));
  }
  return result;
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(all, std::filesystem::directory_iterator()));
}

ASYNC_TEST("small messages that nobody takes count what it takes to keep them") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  both.there.write(talking_hello());
  outcome_of<std::optional<received<any_message>>> taking(executor, both.here.receive_handle());
  std::string small;
  while (small.size() < 6'000'000) small += frame(kind::message, little(2, 2));
  const auto taken = co_await flood(both.there.native_handle(), small);
  CHECK(taken < 4'000'000);
  CHECK(taken > 500'000);
  both.here.close();
  co_await error_of(taking.get());
}

ASYNC_TEST("a peer whose calls fail and who does not read that is not read, and is again when it reads") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options options;
  options.high_water = 20'000;
  against_raw<> both(executor, options);
  both.there.write(talking_hello());
  const auto deaf = [](nothing) -> asio::awaitable<nothing> { co_return nothing(); };
  outcome_of<void> serving(executor, both.here.serve_calls(deaf));
  std::string calls;
  std::uint64_t id = 0;
  while (calls.size() < 8'000'000) {
    ++id;
    calls += request(id, number_payload(id) + std::string(400, 'x'));
  }
  const auto taken = co_await flood(both.there.native_handle(), calls);
  CHECK(taken < 7'000'000);
  both.there.shut_down_writing();
  const bool ended = co_await drain(both.there.native_handle(), [&] { return serving.is_there(); });
  CHECK(ended);
}

ASYNC_TEST("a peer that does not read that its handles are refused is not read, and is again when it reads") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  both.there.write(talking_hello());
  both.here.decline_handles();
  outcome_of<std::string> receiving(executor, next(both.here));
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  const std::vector<int> handles(200, object.get());
  std::uint64_t id = 0;
  int batches = 0;
  for (int refused = 0; batches < 1000 && refused < 5;) {
    const std::string leases = leases_after(id, 200);
    const bool sent = both.there.try_write(leases, handles);
    if (sent) id += 200, ++batches;
    refused = sent ? 0 : refused + 1;
    co_await yield(4);
  }
  CHECK(batches < 500);
  CHECK_FALSE(receiving.is_there());
  const auto last = frame(kind::message, number_payload(77));
  bool said = false;
  const bool heard = co_await drain(both.there.native_handle(), [&] {
    said = said || both.there.try_write(last, {});
    return receiving.is_there();
  });
  REQUIRE(heard);
  const auto message = co_await receiving.get();
  CHECK(message == "77");
}

ASYNC_TEST("a peer that goes while its answers wait is noticed") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  both.there.write(talking_hello());
  both.here.decline_handles();
  outcome_of<std::string> receiving(executor, next(both.here));
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  const std::vector<int> handles(200, object.get());
  std::uint64_t id = 0;
  for (int refused = 0; refused < 5;) {
    const std::string leases = leases_after(id, 200);
    refused = both.there.try_write(leases, handles) ? 0 : refused + 1;
    if (refused == 0) id += 200;
    co_await yield(4);
  }
  both.there.close();
  const auto message = co_await receiving.get();
  CHECK(message == "(end)");
}

ASYNC_TEST("handles in messages that nobody takes stop the reading, as others do") {
  const auto executor = co_await asio::this_coro::executor;
  channel_options few;
  few.max_leases = 4;
  against_raw<> both(executor, few);
  both.there.write(talking_hello());
  outcome_of<std::optional<received<any_message>>> taking(executor, both.here.receive_handle());
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  const std::size_t before = open_descriptors();
  for (std::uint64_t id = 1; id <= 12; ++id) {
    both.there.write(frame(kind::handles, {}, 50) + frame(kind::parcel, little(id, 8) + number_payload(id), 50),
                     std::vector<int>(50, object.get()));
  }
  co_await yield(50);
  CHECK(open_descriptors() >= before + 50);
  CHECK(open_descriptors() <= before + 4 + wire::max_handles);
  both.here.close();
  co_await error_of(taking.get());
}

ASYNC_TEST("after what is malformed, all descriptors that came along are closed at once") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  const std::size_t before = open_descriptors();
  const std::string parcel = frame(kind::parcel, little(1, 8) + number_payload(1), 2);
  const std::string lease = lease_frame(2, handle_kind::descriptor, number_payload(1));
  both.there.write(talking_hello() + frame(kind::message, number_payload(5)));
  both.there.write(frame(kind::handles, {}, 5) + parcel + lease, std::vector<int>(5, object.get()));
  both.there.write(frame(kind::message, number_payload(1)), std::vector<int>(100, object.get()));
  auto message = co_await next(both.here);
  CHECK(message == "5");
  const auto code = co_await error_of(both.here.receive());
  CHECK(code == errc::malformed);
  CHECK(open_descriptors() == before - 1);  // its own socket is closed, too
}

ASYNC_TEST("cancellations of calls that are not there cost no more than their bytes") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  both.there.write(talking_hello());
  outcome_of<std::string> receiving(executor, next(both.here));
  std::string bytes;
  for (std::uint64_t id = 1; id <= 20'000; ++id) bytes += request(id, number_payload(id));
  for (std::uint64_t id = 20'000; id >= 1; --id) {  // the last first: each is far from where a search begins
    bytes += frame(kind::message, little(static_cast<std::uint64_t>(wire::envelope::cancel), 2) + little(id, 8));
  }
  bytes += frame(kind::message, number_payload(77));
  const auto taken = co_await flood(both.there.native_handle(), bytes);
  CHECK(taken == bytes.size());
  const auto message = co_await receiving.get();
  CHECK(message == "77");
}

}  // namespace
}  // namespace cohort::test::flood_test
