// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/ipc/handle.hpp"

#include <array>
#include <optional>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channels.hpp"
#include "raw_end.hpp"
#include "../support/asio.hpp"

namespace cohort::test::handle_test {
namespace {

using asio::ip::tcp;
using asio::ip::udp;
using local_stream = asio::local::stream_protocol;
using local_datagram = asio::local::datagram_protocol;

/// Sends an object through a channel and returns what arrives.
template <class Handle>
asio::awaitable<any_handle> passed(Handle object) {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  const number with{1};
  outcome_of<void> giving(executor, both.here.send_handle(with, std::move(object)));
  auto got = co_await both.there.receive_handle();
  co_await giving.get();
  REQUIRE(got);
  co_return std::move(got->handle);
}

/// An object as what it was when it comes out at the other end.
template <class Handle>
asio::awaitable<Handle> there_and_back(Handle object) {
  const auto executor = co_await asio::this_coro::executor;
  any_handle arrived = co_await passed(std::move(object));
  CHECK(arrived.kind() == kind_of(arrived.native_handle()));
  co_return std::move(arrived).as<Handle>(executor);
}

template <class Stream>
asio::awaitable<std::string> read_from(Stream& stream) {
  std::array<char, 64> bytes;
  const auto size = co_await stream.async_read_some(asio::buffer(bytes), asio::use_awaitable);
  co_return std::string(bytes.data(), size);
}

template <class Stream>
asio::awaitable<void> write_to(Stream& stream, std::string what) {
  co_await stream.async_write_some(asio::buffer(what), asio::use_awaitable);
}

std::vector<asio::ip::address> loopbacks() {
  return {asio::ip::address_v4::loopback(), asio::ip::address_v6::loopback()};
}

ASYNC_TEST("a tcp acceptor arrives and accepts, and a tcp socket arrives and talks") {
  const auto executor = co_await asio::this_coro::executor;
  for (const auto& loopback : loopbacks()) {
    tcp::acceptor acceptor(executor, tcp::endpoint(loopback, 0));
    const auto at = acceptor.local_endpoint();
    acceptor = co_await there_and_back(std::move(acceptor));
    CHECK(acceptor.local_endpoint() == at);

    tcp::socket client(executor);
    co_await client.async_connect(at, asio::use_awaitable);
    tcp::socket server = co_await acceptor.async_accept(asio::use_awaitable);
    server = co_await there_and_back(std::move(server));
    CHECK(server.local_endpoint() == at);
    CHECK(server.remote_endpoint() == client.local_endpoint());
    co_await write_to(server, "from the server");
    auto heard = co_await read_from(client);
    CHECK(heard == "from the server");
    client = co_await there_and_back(std::move(client));
    co_await write_to(client, "from the client");
    heard = co_await read_from(server);
    CHECK(heard == "from the client");
  }
}

ASYNC_TEST("a udp socket arrives and talks") {
  const auto executor = co_await asio::this_coro::executor;
  for (const auto& loopback : loopbacks()) {
    udp::socket first(executor, udp::endpoint(loopback, 0)), second(executor, udp::endpoint(loopback, 0));
    first = co_await there_and_back(std::move(first));
    const std::string what = "datagram";
    co_await second.async_send_to(asio::buffer(what), first.local_endpoint(), asio::use_awaitable);
    std::array<char, 64> bytes;
    const auto size = co_await first.async_receive(asio::buffer(bytes), asio::use_awaitable);
    CHECK(std::string(bytes.data(), size) == what);
  }
}

ASYNC_TEST("a local socket arrives and talks") {
  const auto executor = co_await asio::this_coro::executor;
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  local_stream::socket first(executor, local_stream(), ends[0]), second(executor, local_stream(), ends[1]);
  first = co_await there_and_back(std::move(first));
  co_await write_to(first, "stream");
  const auto heard = co_await read_from(second);
  CHECK(heard == "stream");
}

ASYNC_TEST("a local datagram socket arrives and talks") {
  const auto executor = co_await asio::this_coro::executor;
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0);
  local_datagram::socket first(executor, local_datagram(), ends[0]), second(executor, local_datagram(), ends[1]);
  first = co_await there_and_back(std::move(first));
  const std::string what = "datagram";
  co_await first.async_send(asio::buffer(what), asio::use_awaitable);
  std::array<char, 64> bytes;
  const auto size = co_await second.async_receive(asio::buffer(bytes), asio::use_awaitable);
  CHECK(std::string(bytes.data(), size) == what);
}

ASYNC_TEST("a local acceptor arrives and accepts") {
  const auto executor = co_await asio::this_coro::executor;
  // an abstract address (unix(7)): no file to clean up
  const local_stream::endpoint at(std::string(1, '\0') + "cohort-test-" + std::to_string(::getpid()));
  local_stream::acceptor acceptor(executor, at);
  acceptor = co_await there_and_back(std::move(acceptor));
  local_stream::socket client(executor);
  co_await client.async_connect(at, asio::use_awaitable);
  auto server = co_await acceptor.async_accept(asio::use_awaitable);
  co_await write_to(server, "accepted");
  const auto heard = co_await read_from(client);
  CHECK(heard == "accepted");
}

ASYNC_TEST("the ends of a pipe arrive and carry bytes") {
  const auto executor = co_await asio::this_coro::executor;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  asio::posix::stream_descriptor reading(executor, ends[0]), writing(executor, ends[1]);
  any_handle read_end = co_await passed(std::move(reading));
  CHECK(read_end.kind() == handle_kind::pipe);
  any_handle write_end = co_await passed(std::move(writing));
  CHECK(write_end.kind() == handle_kind::pipe);
  reading = std::move(read_end).as<asio::posix::stream_descriptor>(executor);
  writing = std::move(write_end).as<asio::posix::stream_descriptor>(executor);
  co_await write_to(writing, "through the pipe");
  const auto heard = co_await read_from(reading);
  CHECK(heard == "through the pipe");
}

ASYNC_TEST("a file and a memfd arrive with what is in them") {
  const auto executor = co_await asio::this_coro::executor;
  descriptor memory(::memfd_create("cohort-test", MFD_CLOEXEC));
  REQUIRE(::write(memory.get(), "in memory", 9) == 9);
  any_handle arrived = co_await passed(std::move(memory));
  CHECK(arrived.kind() == handle_kind::file);
  const auto file = std::move(arrived).as<descriptor>(executor);
  char bytes[16];
  CHECK(::pread(file.get(), bytes, sizeof bytes, 0) == 9);
  CHECK(std::string(bytes, 9) == "in memory");

  arrived = co_await passed(descriptor(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)));
  CHECK(arrived.kind() == handle_kind::file);
  CHECK(::pread(arrived.native_handle(), bytes, 4, 0) == 4);
  CHECK(std::string(bytes, 4) == "\177ELF");
}

ASYNC_TEST("anything else is a descriptor") {
  const auto executor = co_await asio::this_coro::executor;
  any_handle arrived = co_await passed(descriptor(::eventfd(7, EFD_CLOEXEC)));
  CHECK(arrived.kind() == handle_kind::descriptor);
  const auto counter = std::move(arrived).as<descriptor>(executor);
  eventfd_t value = 0;
  CHECK(::eventfd_read(counter.get(), &value) == 0);
  CHECK(value == 7);
  arrived = co_await passed(descriptor(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  CHECK(arrived.kind() == handle_kind::descriptor);
  arrived = co_await passed(descriptor(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)));
  CHECK(arrived.kind() == handle_kind::descriptor);
  CHECK(kind_of(-1) == handle_kind::descriptor);
}

ASYNC_TEST("an end of a channel arrives and becomes a channel") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel<any_message, any_message> mine(executor, std::move(ends.first));
  co_await mine.send<number>(8u);
  any_handle arrived = co_await passed(std::move(ends.second));
  CHECK(arrived.kind() == handle_kind::local_socket);
  channel<any_message, any_message> other(executor, std::move(arrived).as<descriptor>(executor));
  const auto heard = co_await next(other);
  CHECK(heard == "8");
}

ASYNC_TEST("a handle that was received goes on as what it is") {
  const auto executor = co_await asio::this_coro::executor;
  tcp::acceptor acceptor(executor, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const auto at = acceptor.local_endpoint();
  any_handle first = co_await passed(std::move(acceptor));
  any_handle second = co_await passed(std::move(first));
  CHECK(second.kind() == handle_kind::tcp_acceptor);
  acceptor = std::move(second).as<tcp::acceptor>(executor);
  CHECK(acceptor.local_endpoint() == at);
}

ASYNC_TEST("every handle arrives close-on-exec") {
  const any_handle arrived = co_await passed(descriptor(::eventfd(0, 0)));
  CHECK((::fcntl(arrived.native_handle(), F_GETFD) & FD_CLOEXEC) != 0);
}

ASYNC_TEST("a handle that is wanted as something else throws, and is kept") {
  const auto executor = co_await asio::this_coro::executor;
  any_handle handle = co_await passed(tcp::acceptor(executor, tcp::endpoint(asio::ip::address_v4::loopback(), 0)));
  std::string what;
  try {
    (void)std::move(handle).as<tcp::socket>(executor);
  } catch (const std::system_error& error) {
    CHECK(error.code() == errc::wrong_handle_kind);
    what = error.what();
  }
  CHECK(what == "handle: wanted a tcp socket, got a tcp acceptor: the handle is of another kind");
  REQUIRE(handle);
  const auto acceptor = std::move(handle).as<tcp::acceptor>(executor);
  CHECK(acceptor.is_open());
  CHECK_FALSE(handle);
  CHECK_THROWS_AS((void)std::move(handle).as<tcp::acceptor>(executor), std::system_error);
  CHECK_THROWS_AS((void)std::move(handle).as<descriptor>(executor), std::system_error);
  any_handle none;
  CHECK_FALSE(none);
  CHECK(none.native_handle() == -1);
  CHECK_THROWS_AS((void)std::move(none).as<descriptor>(executor), std::system_error);
}

ASYNC_TEST("a socket that does not listen is no acceptor, and stays with its sender") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  tcp::acceptor acceptor(executor);
  acceptor.open(tcp::v4());
  acceptor.bind(tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const number with{1};
  outcome_of<std::optional<received<any_message>>> taking(executor, both.there.receive_handle());
  const auto code = co_await error_of(both.here.send_handle(with, std::move(acceptor)));
  CHECK(code == errc::wrong_handle_kind);
  REQUIRE(acceptor.is_open());
  acceptor.listen();
  co_await both.here.send_handle(with, std::move(acceptor));
  CHECK_FALSE(acceptor.is_open());
  const auto got = co_await taking.get();
  CHECK(got->handle.kind() == handle_kind::tcp_acceptor);
}

ASYNC_TEST("what is not what its sender says is refused") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw<> both(executor);
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  both.there.write(talking_hello());
  std::uint64_t id = 0;
  for (std::uint8_t kind = 2; kind <= 9; ++kind) {
    both.there.write(
        frame(wire::kind::handles, {}, 1) + lease_frame(++id, static_cast<handle_kind>(kind), number_payload(1)),
        {object.get()});
  }
  both.there.write(frame(wire::kind::handles, {}, 1) + lease_frame(++id, handle_kind::descriptor, number_payload(5)),
                   {object.get()});
  const auto got = co_await both.here.receive_handle();
  CHECK(as_string(got->message) == "5");
  co_await yield(2);
  const auto answers = both.there.frames();
  REQUIRE(answers.size() == 9);
  for (std::uint64_t i = 0; i < 8; ++i) {
    CHECK(answers[i] == std::pair(wire::kind::refused, little(i + 1, 8) + little(3, 1)));
  }
  CHECK(answers[8].first == wire::kind::adopted);
}

ASYNC_TEST("an object that is not open cannot be sent") {
  const auto executor = co_await asio::this_coro::executor;
  talking both(executor);
  const number with{1};
  tcp::socket closed(executor);
  auto what = co_await text_of(both.here.send_handle(with, closed));
  CHECK(what == "send_handle: the handle is not open: Bad file descriptor");
  auto code = co_await error_of(both.here.send_handle(with, descriptor()));
  CHECK(code == std::error_code(EBADF, std::system_category()));
  any_handle none;
  code = co_await error_of(both.here.send_handle(with, none));
  CHECK(code == std::error_code(EBADF, std::system_category()));
}

PLAIN_TEST("each kind has a name") {
  for (int kind = 1; kind <= 9; ++kind) CHECK(to_string(static_cast<handle_kind>(kind)) != "unknown");
  CHECK(to_string(static_cast<handle_kind>(0)) == "unknown");
  CHECK(to_string(static_cast<handle_kind>(10)) == "unknown");
}

}  // namespace
}  // namespace cohort::test::handle_test
