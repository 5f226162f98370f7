// SPDX-License-Identifier: BSL-1.0
// Messages with handles in them.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>

#include "../../include/cohort/ipc/channel.hpp"
#include "../../include/cohort/ipc/shared_buffer.hpp"
#include "../support/cancellation.hpp"
#include "../support/fault.hpp"
#include "../support/harness.hpp"
#include "channels.hpp"

namespace cohort::test::parcel_test {
namespace {

struct route {
  std::string host;
  handle<asio::ip::tcp::socket> client;
};

struct bundle {
  std::vector<handle<descriptor>> parts;
  std::optional<handle<descriptor>> one_more;
};

struct plain {
  int number = 0;
};

struct blob {
  handle<shared_buffer> bytes;
};

struct newer {
  handle<descriptor> part;
};

using messages = std::variant<route, bundle, plain, blob>;
using both = connected<messages, messages>;

void ignore(std::exception_ptr) {}

struct pipe_ends {
  pipe_ends() {
    int made[2];
    REQUIRE(::pipe2(made, O_CLOEXEC) == 0);
    reading.reset(made[0]);
    writing.reset(made[1]);
  }
  descriptor reading, writing;
};

/// What `fd` is told to be read from after this text has been written to the other end.
std::string through(int writing, int reading) {
  const char word[] = "through";
  CHECK(::write(writing, word, sizeof word) == sizeof word);
  char got[sizeof word] = {};
  CHECK(::read(reading, got, sizeof got) == sizeof got);
  return got;
}

bundle bundle_of(std::size_t count) {
  bundle result;
  for (std::size_t i = 0; i < count; ++i) {
    descriptor each(::dup(0));
    REQUIRE(static_cast<bool>(each));
    result.parts.emplace_back(std::move(each));
  }
  return result;
}

}  // namespace

ASYNC_TEST("a handle in a message arrives with it, as what it is") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  asio::ip::tcp::acceptor listener(executor, {asio::ip::address_v4::loopback(), 0});
  asio::ip::tcp::socket client(executor), accepted(executor);
  client.connect(listener.local_endpoint());
  listener.accept(accepted);

  route message{"example.org", std::move(accepted)};
  CHECK_FALSE(accepted.is_open());
  std::optional<messages> got;
  const auto receive = [&]() -> asio::awaitable<void> { got = co_await ends.there.receive(); };
  task_group tasks(executor);
  tasks.start(receive(), ignore);
  co_await ends.here.send(message);
  co_await tasks.wait_empty();
  REQUIRE(got.has_value());
  auto& arrived = std::get<route>(*got);
  CHECK(arrived.host == "example.org");
  CHECK(arrived.client.kind() == handle_kind::tcp_socket);
  auto socket = std::move(arrived.client).make(executor);
  CHECK_FALSE(static_cast<bool>(arrived.client));
  CHECK(through(socket.native_handle(), client.native_handle()) == "through");
  CHECK(static_cast<bool>(message.client));  // shared, because it was sent as an lvalue
}

ASYNC_TEST("sending a message with handles completes when it has been received, in order with the others") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  bundle message = bundle_of(3);
  bool sent = false;
  const auto send = [&]() -> asio::awaitable<void> {
    const plain before{1}, after{2};
    co_await ends.here.send(before);
    task_group inner(executor);
    inner.start(ends.here.send(message), [&](std::exception_ptr failure) { sent = failure == nullptr; });
    co_await yield();
    co_await ends.here.send(after);
    co_await inner.wait_empty();
  };
  task_group tasks(executor);
  tasks.start(send(), ignore);
  co_await yield(20);
  CHECK_FALSE(sent);
  const auto first = co_await ends.there.receive();
  CHECK(std::get<plain>(*first).number == 1);
  const auto second = co_await ends.there.receive();
  CHECK(std::get<bundle>(*second).parts.size() == 3);
  const auto third = co_await ends.there.receive();
  CHECK(std::get<plain>(*third).number == 2);
  const bool told = co_await eventually([&] { return sent; });
  CHECK(told);
  co_await tasks.wait_empty();
}

ASYNC_TEST("a message carries no handle, one, or 253, and no more") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{252}, std::size_t{253}}) {
    bundle message = bundle_of(count);
    std::optional<messages> got;
    const auto receive = [&]() -> asio::awaitable<void> { got = co_await ends.there.receive(); };
    task_group tasks(executor);
    tasks.start(receive(), ignore);
    co_await ends.here.send(message);
    co_await tasks.wait_empty();
    REQUIRE(got.has_value());
    CHECK(std::get<bundle>(*got).parts.size() == count);
  }
  bundle too_many = bundle_of(253);
  too_many.one_more.emplace(descriptor(::dup(0)));
  bool threw = false;
  try {
    co_await ends.here.send(too_many);
  } catch (const std::system_error& error) {
    threw = error.code() == errc::too_many_handles;
  }
  CHECK(threw);
  CHECK(static_cast<bool>(too_many.parts.front()));
}

ASYNC_TEST("messages of 200 handles each follow one another and none is mixed up") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  task_group tasks(executor);
  std::vector<std::unique_ptr<pipe_ends>> pipes;
  std::vector<std::unique_ptr<bundle>> sent;
  for (int i = 0; i < 5; ++i) {
    sent.push_back(std::make_unique<bundle>(bundle_of(199)));
    pipes.push_back(std::make_unique<pipe_ends>());
    sent.back()->parts.emplace_back(std::move(pipes.back()->writing));
    tasks.start(ends.here.send(*sent.back()), ignore);
  }
  for (int i = 0; i < 5; ++i) {
    const auto got = co_await ends.there.receive();
    const auto& last = std::get<bundle>(*got).parts.back();
    CHECK(through(last.native_handle(), pipes[static_cast<std::size_t>(i)]->reading.get()) == "through");
  }
  co_await tasks.wait_empty();
}

ASYNC_TEST("a peer that goes without having received the message leaves it to the sender") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  pipe_ends pipe;
  bundle message;
  message.parts.emplace_back(std::move(pipe.writing));
  std::error_code result;
  const auto send = [&]() -> asio::awaitable<void> { result = co_await error_of(ends.here.send(message)); };
  task_group tasks(executor);
  tasks.start(send(), ignore);
  co_await yield(10);
  ends.there.close();
  co_await tasks.wait_empty();
  CHECK(result == errc::peer_closed);
  CHECK(through(message.parts.front().native_handle(), pipe.reading.get()) == "through");
}

ASYNC_TEST("a peer without room for the descriptors refuses the message, and the next one is whole") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  bundle message = bundle_of(4);
  std::error_code result;
  {
    const intercept<&system::calls::recvmsg> no_room([](auto real, int fd, msghdr* to, int flags) {
      const auto size = real(fd, to, flags);
      cmsghdr* const header = CMSG_FIRSTHDR(to);
      if (size > 0 && header != nullptr && header->cmsg_type == SCM_RIGHTS) {
        const auto count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        int lost = -1;
        std::memcpy(&lost, CMSG_DATA(header) + (count - 1) * sizeof(int), sizeof lost);
        ::close(lost);
        header->cmsg_len -= sizeof(int);
        to->msg_flags |= MSG_CTRUNC;
      }
      return size;
    });
    const plain before{7};
    task_group tasks(executor);
    const auto send = [&]() -> asio::awaitable<void> { result = co_await error_of(ends.here.send(message)); };
    tasks.start(send(), ignore);
    tasks.start(ends.here.send(before), ignore);
    const auto got = co_await ends.there.receive();
    CHECK(std::get<plain>(*got).number == 7);
    co_await tasks.wait_empty();
  }
  CHECK(result == errc::handle_lost);
  std::optional<messages> got;
  const auto receive = [&]() -> asio::awaitable<void> { got = co_await ends.there.receive(); };
  task_group tasks(executor);
  tasks.start(receive(), ignore);
  co_await ends.here.send(message);
  co_await tasks.wait_empty();
  CHECK(std::get<bundle>(*got).parts.size() == 4);
}

ASYNC_TEST("a peer that does not know the message gives the handles back") {
  const auto executor = co_await asio::this_coro::executor;
  auto pair = make_channel_pair();
  channel<std::variant<newer, plain>, plain> left(executor, std::move(pair.first));
  channel<plain, std::variant<plain, route>> right(executor, std::move(pair.second));
  pipe_ends pipe;
  newer message{std::move(pipe.writing)};
  std::error_code heard;
  const auto receive = [&]() -> asio::awaitable<void> { heard = co_await error_of(right.receive()); };
  task_group tasks(executor);
  tasks.start(receive(), ignore);
  const auto refused = co_await error_of(left.send(message));
  co_await tasks.wait_empty();
  CHECK(refused == errc::unknown_message);
  CHECK(heard == errc::unknown_message);
  CHECK(through(message.part.native_handle(), pipe.reading.get()) == "through");
}

ASYNC_TEST("a handle cannot go where it could not come back from") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  bundle message = bundle_of(1);
  const std::error_code invalid(EINVAL, std::system_category());
  std::error_code posted;
  try {
    ends.here.post(message);
  } catch (const std::system_error& error) {
    posted = error.code();
  }
  CHECK(posted == invalid);
  const auto called = co_await error_of(ends.here.call<plain>(message));
  CHECK(called == invalid);
  const auto made = co_await error_of(ends.here.send<blob>(shared_buffer("x")));
  CHECK(made == invalid);
  const plain after{3};
  co_await ends.here.send(after);
  const auto got = co_await ends.there.receive();
  CHECK(std::get<plain>(*got).number == 3);
}

ASYNC_TEST("a handle that is not open cannot be sent") {
  both ends(co_await asio::this_coro::executor);
  route message;
  message.host = "nowhere";
  bool threw = false;
  try {
    co_await ends.here.send(message);
  } catch (const std::system_error& error) {
    threw = error.code() == std::error_code(EBADF, std::system_category());
  }
  CHECK(threw);
}

PLAIN_TEST("a handle is checked against what it is made from") {
  asio::io_context context;
  pipe_ends pipe;
  any_handle given(handle_kind::pipe, std::move(pipe.reading));
  bool threw = false;
  try {
    handle<asio::ip::tcp::socket> wrong(std::move(given));
  } catch (const std::system_error& error) {
    threw = error.code() == errc::wrong_handle_kind;
  }
  CHECK(threw);
}

PLAIN_TEST("sending handles in a message that is cancelled at any moment gives all of them or none") {
  const auto points = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    both ends(executor);
    bundle message = bundle_of(5);
    const plain last{9};
    std::size_t arrived = 0;
    const auto receive = [&]() -> asio::awaitable<void> {
      for (;;) {
        auto got = co_await ends.there.receive();
        REQUIRE(got.has_value());
        if (std::holds_alternative<plain>(*got)) break;
        arrived += std::get<bundle>(*got).parts.size();
      }
    };
    task_group tasks(executor);
    tasks.start(receive(), ignore);
    const bool completed = co_await cancelled(ends.here.send(message));
    co_await ends.here.send(last);
    co_await tasks.wait_empty();
    // A message that the peer has taken in the moment of the cancellation may be on both sides; in parts, on none.
    CHECK((arrived == 5 || (arrived == 0 && !completed)));
    CHECK(static_cast<bool>(message.parts.back()));
  });
  CHECK(points > 2);
}

ASYNC_TEST("a shared buffer is read from the same memory on the other side") {
  const auto executor = co_await asio::this_coro::executor;
  both ends(executor);
  blob message{shared_buffer(5'000'000, [](std::span<char> bytes) { std::fill(bytes.begin(), bytes.end(), 'y'); })};
  std::optional<messages> got;
  const auto receive = [&]() -> asio::awaitable<void> { got = co_await ends.there.receive(); };
  task_group tasks(executor);
  tasks.start(receive(), ignore);
  co_await ends.here.send(message);
  co_await tasks.wait_empty();
  const shared_buffer bytes = std::move(std::get<blob>(*got).bytes).make(executor);
  CHECK(bytes.size() == 5'000'000);
  const bool same = bytes.view() == std::string(5'000'000, 'y');
  CHECK(same);
}

ASYNC_TEST("a channel's end is a handle: two who know a third come to know each other") {
  const auto executor = co_await asio::this_coro::executor;
  struct meet {};
  using control = channel<meet, meet>;
  auto first = make_channel_pair(), second = make_channel_pair(), direct = make_channel_pair();
  control to_a(executor, std::move(first.first)), a(executor, std::move(first.second));
  control to_b(executor, std::move(second.first)), b(executor, std::move(second.second));
  const meet word;
  task_group tasks(executor);
  tasks.start(to_a.send_handle(word, std::move(direct.first)), ignore);
  tasks.start(to_b.send_handle(word, std::move(direct.second)), ignore);
  auto at_a = co_await a.receive_handle();
  auto at_b = co_await b.receive_handle();
  co_await tasks.wait_empty();
  channel<plain, plain> from_a(executor, std::move(at_a->handle).as<descriptor>(executor));
  channel<plain, plain> from_b(executor, std::move(at_b->handle).as<descriptor>(executor));
  const plain hello{1};
  co_await from_a.send(hello);
  const auto heard = co_await from_b.receive();
  CHECK(heard->number == 1);
}

}  // namespace cohort::test::parcel_test
