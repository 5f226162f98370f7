// SPDX-License-Identifier: BSL-1.0
// Channels between processes.
#include "../../include/cohort/ipc/peer.hpp"

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "../process/children.hpp"
#include "../support/fault.hpp"
#include "channels.hpp"

namespace cohort::test::peer_test {
namespace {

using asio::ip::tcp;
using strings = std::vector<std::string>;

/// A child that gives messages back and carries out orders.
asio::awaitable<peer<talk>> start() {
  auto started = co_await spawn<talk>(helper("ipc-obey"), over_transport());
  co_return started;
}

/// Ends a child that obeys.
asio::awaitable<void> finish(peer<talk>& child) {
  co_await child.disconnect();
  const auto status = co_await child.wait();
  CHECK(status == exit_status::exited(0));
}

/// Two ends of a tcp connection.
struct connection {
  explicit connection(const asio::any_io_executor& executor) : near(executor), far(executor) {
    tcp::acceptor acceptor(executor, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    far.connect(acceptor.local_endpoint());
    acceptor.accept(near);
  }

  tcp::socket near, far;
};

/// What arrives at a socket, up to its end or so many bytes.
asio::awaitable<std::string> read_from(tcp::socket& socket, std::size_t size) {
  std::string result;
  while (result.size() < size) {
    char bytes[64];
    detail::asio_error error;
    const auto got =
        co_await socket.async_read_some(asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    result.append(bytes, got);
  }
  co_return result;
}

/// Whether a socket that a child should not have taken still works.
asio::awaitable<bool> still_works(connection& between) {
  between.near.write_some(asio::buffer("still here", 10));
  const auto heard = co_await read_from(between.far, 10);
  co_return heard == "still here";
}

ASYNC_TEST("messages go to a child and back") {
  auto child = co_await start();
  CHECK(child.pid() > 0);
  co_await child.send<number>(1u);
  co_await child.send<text>("two");
  co_await child.send<nothing>();
  const strings expected{"1", "two", "nothing"};
  for (const auto& each : expected) {
    const auto heard = co_await next(child);
    CHECK(heard == each);
  }
  co_await finish(child);
}

ASYNC_TEST("single types go to a child and back") {
  auto child = co_await spawn<sums>(helper("ipc-measure"), over_transport());
  for (const std::size_t size : {std::size_t{0}, std::size_t{5}, std::size_t{1'000'000}}) {
    co_await child.send<text>(std::string(size, 'x'));
    const auto answer = co_await child.receive();
    REQUIRE(answer);
    CHECK(answer->value == size);
  }
  co_await child.disconnect();
  const auto end = co_await child.receive();
  CHECK_FALSE(end);
  const auto status = co_await child.wait();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("messages of every size at a boundary go to a child and back") {
  const auto executor = co_await asio::this_coro::executor;
  auto child = co_await start();
  std::vector<text> sent;
  strings expected;
  for (const std::size_t boundary : {16 * 1024, 128 * 1024, 1024 * 1024}) {
    for (const std::size_t size : {boundary - 1, boundary, boundary + 1}) {
      sent.push_back(text_of_size(size, static_cast<unsigned>(size)));
      expected.push_back(as_string(any_message(sent.back())));
    }
  }
  auto send_all = [&]() -> asio::awaitable<void> {
    for (const auto& each : sent) co_await child.send(each);
    co_await child.disconnect();
  };
  outcome_of<void> sending(executor, send_all());
  const auto heard = co_await all(child);
  CHECK(heard == expected);
  co_await sending.get();
  co_await child.wait();
}

ASYNC_TEST("what a child wrote before its exit is received after the exit") {
  auto child = co_await start();
  co_await child.send<order>("say", 2000u);
  co_await child.send<order>("exit", 3u);
  const auto status = co_await child.wait();
  CHECK(status == exit_status::exited(3));
  const auto heard = co_await all(child);
  REQUIRE(heard.size() == 2000);
  CHECK(heard.front() == "0");
  CHECK(heard.back() == "1999");
  const auto handle = co_await child.receive_handle();
  CHECK_FALSE(handle);
}

ASYNC_TEST("a child that is killed is an end") {
  auto child = co_await start();
  co_await child.send<number>(1u);
  auto heard = co_await next(child);
  CHECK(heard == "1");
  child.signal(SIGKILL);
  heard = co_await next(child);
  CHECK(heard == "(end)");
  const auto status = co_await child.wait();
  CHECK(status == exit_status::killed(SIGKILL));
  const auto code = co_await error_of(child.send<number>(2u));
  CHECK(code == errc::peer_closed);
}

ASYNC_TEST("a child that is killed in the middle of a message has torn it") {
  auto child = co_await start();
  co_await child.send<order>("say half", 0u);
  const auto heard = co_await next(child);
  CHECK(heard == "1");
  const auto code = co_await error_of(child.receive());
  CHECK(code == errc::peer_closed);
  const auto status = co_await child.wait();
  CHECK(status == exit_status::killed(SIGKILL));
}

ASYNC_TEST("a sender whose child does not read waits, and hears of its end") {
  const auto executor = co_await asio::this_coro::executor;
  auto child = co_await start();
  co_await child.send<order>("pause", 0u);
  auto heard = co_await next(child);
  const text large = text_of_size(1024 * 1024);
  outcome_of<void> sending(executor, child.send(large));
  co_await yield(100);  // far more turns than it takes to fill the socket
  CHECK_FALSE(sending.is_there());
  child.signal(SIGKILL);
  const auto code = co_await error_of(sending.get());
  CHECK(code == errc::peer_closed);
  co_await child.wait();
}

ASYNC_TEST("a child whose channel is closed hears the end") {
  auto child = co_await start();
  child.close();
  const auto status = co_await child.wait();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a peer that is destroyed takes its child with it") {
  {
    const auto child = co_await start();
  }
  // the harness finds a child that is left, and the next test's end its descriptors
}

ASYNC_TEST("a peer may be moved") {
  auto first = co_await start();
  const auto pid = first.pid();
  peer<talk> second(std::move(first));
  CHECK(first.pid() == 0);
  CHECK_FALSE(first.is_open());
  CHECK(second.pid() == pid);
  co_await second.send<number>(1u);
  const auto heard = co_await next(second);
  CHECK(heard == "1");
  peer<talk> third;
  third = std::move(second);
  const auto status = co_await third.stop();
  CHECK(third.pid() == pid);
  CHECK(status == exit_status::killed(SIGTERM));
  CHECK(third.process().pid() == pid);
}

ASYNC_TEST("handles of each kind go to a child, which uses them") {
  const auto executor = co_await asio::this_coro::executor;
  auto child = co_await start();
  co_await child.send<order>("take", 3u);
  const nothing with;

  connection between(executor);
  co_await child.send_handle(with, std::move(between.near));
  CHECK_FALSE(between.near.is_open());
  auto heard = co_await read_from(between.far, 14);
  CHECK(heard == "from the child");
  heard = co_await next(child);
  CHECK(heard == "tcp socket");

  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  descriptor reading(ends[0]), writing(ends[1]);
  co_await child.send_handle(with, std::move(writing));
  heard = co_await next(child);
  CHECK(heard == "pipe");
  char bytes[64];
  CHECK(::read(reading.get(), bytes, sizeof bytes) == 14);

  const descriptor file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  REQUIRE(file);
  co_await child.send_handle(with, file);
  heard = co_await next(child);
  CHECK(heard == "file");
  CHECK(::pread(file.get(), bytes, sizeof bytes, 0) == 14);
  co_await finish(child);
}

ASYNC_TEST("a socket that a killed child had not taken is still ours") {
  const auto executor = co_await asio::this_coro::executor;
  auto child = co_await start();
  co_await child.send<number>(1u);
  co_await next(child);
  child.signal(SIGSTOP);
  connection between(executor);
  const nothing with;
  outcome_of<void> giving(executor, child.send_handle(with, std::move(between.near)));
  co_await yield(100);  // the kernel has it by then
  CHECK_FALSE(giving.is_there());
  child.signal(SIGKILL);
  const auto what = co_await text_of(giving.get());
  CHECK(what == "send_handle: the peer closed the channel");
  REQUIRE(between.near.is_open());
  const bool works = co_await still_works(between);
  CHECK(works);
  co_await child.wait();
}

ASYNC_TEST("a socket that a child has read, but not taken, is still ours when it exits") {
  const auto executor = co_await asio::this_coro::executor;
  auto child = co_await start();
  connection between(executor);
  const nothing with;
  outcome_of<void> giving(executor, child.send_handle(with, std::move(between.near)));
  co_await child.send<number>(1u);
  co_await next(child);  // which was behind the handle
  CHECK_FALSE(giving.is_there());
  co_await child.send<order>("exit", 0u);
  const auto code = co_await error_of(giving.get());
  CHECK(code == errc::peer_closed);
  const bool works = co_await still_works(between);
  CHECK(works);
  co_await child.wait();
}

ASYNC_TEST("a child without free descriptors loses a handle, we keep it, and the next one is in its place") {
  const auto executor = co_await asio::this_coro::executor;
  auto child = co_await start();
  co_await child.send<order>("descriptors", 0u);
  co_await next(child);
  connection first(executor), second(executor);
  const nothing with;
  outcome_of<void> giving(executor, child.send_handle(with, std::move(first.near)));
  outcome_of<void> giving_second(executor, child.send_handle(with, std::move(second.near)));
  auto code = co_await error_of(giving.get());
  CHECK(code == errc::handle_lost);
  code = co_await error_of(giving_second.get());
  CHECK(code == errc::handle_lost);
  bool works = co_await still_works(first);
  CHECK(works);
  works = co_await still_works(second);
  CHECK(works);

  co_await child.send<order>("descriptors", 1u);
  co_await next(child);
  co_await child.send<order>("take", 2u);
  co_await child.send_handle(with, std::move(second.near));
  co_await child.send_handle(with, std::move(first.near));
  auto heard = co_await read_from(second.far, 14);
  CHECK(heard == "from the child");
  heard = co_await read_from(first.far, 14);
  CHECK(heard == "from the child");
  co_await finish(child);
}

ASYNC_TEST("a handle that a child declines is still ours") {
  const auto executor = co_await asio::this_coro::executor;
  auto child = co_await start();
  co_await child.send<order>("decline", 0u);
  co_await next(child);
  connection between(executor);
  const nothing with;
  const auto code = co_await error_of(child.send_handle(with, std::move(between.near)));
  CHECK(code == errc::handle_refused);
  const bool works = co_await still_works(between);
  CHECK(works);
  co_await finish(child);
}

ASYNC_TEST("the channel is the first descriptor that the command leaves free, and no grandchild sees it") {
  for (const auto& [taken, expected] :
       {std::pair{std::vector<int>{}, "3"}, {std::vector{3}, "4"}, {std::vector{3, 4, 6}, "5"}}) {
    command what = helper("ipc-obey");
    for (const int each : taken) what.fd(each, stdio::null);
    auto child = co_await spawn<talk>(what, over_transport());
    co_await child.send<order>("look", 0u);
    const auto heard = co_await next(child);
    CHECK(heard == std::string(expected) + ", not named, close-on-exec");
    co_await finish(child);
  }
}

ASYNC_TEST("a command can be spawned with a channel again and again") {
  const command what = helper("ipc-obey");
  for (int i = 0; i < 2; ++i) {
    auto child = co_await spawn<talk>(what, over_transport());
    co_await child.send<number>(1u);
    const auto heard = co_await next(child);
    CHECK(heard == "1");
    co_await finish(child);
  }
}

ASYNC_TEST("a child that exits at once is an end") {
  auto child = co_await spawn<talk>(helper("exit-code", "5"), over_transport());
  auto heard = co_await next(child);
  CHECK(heard == "(end)");
  const auto status = co_await child.wait();
  CHECK(status == exit_status::exited(5));
  const auto code = co_await error_of(child.send<number>(1u));
  CHECK(code == errc::peer_closed);
}

ASYNC_TEST("the options of a spawn hold for its channel") {
  channel_options small;
  small.max_message = 100;
  auto child = co_await spawn<talk>(helper("ipc-obey"), over_transport(small));
  const text too_large = text_of_size(101);
  const auto code = co_await error_of(child.send(too_large));
  CHECK(code == errc::message_too_large);
  co_await finish(child);
}

ASYNC_TEST("a spawn that fails leaves nothing") {
  auto what = co_await text_of(spawn<talk>(command("/nope")));
  CHECK(what == "spawn: exec \"/nope\": No such file or directory");
  const fault<&system::calls::socketpair> none(EMFILE);
  what = co_await text_of(spawn<talk>(helper("ipc-obey"), over_transport()));
  CHECK(what == "channel: socketpair: Too many open files");
}

ASYNC_TEST("nobody as a peer") {
  peer<talk> nobody;
  CHECK(nobody.pid() == 0);
  CHECK_FALSE(nobody.is_open());
  auto code = co_await error_of(nobody.wait());
  CHECK(code == errc::no_child);
  code = co_await error_of(nobody.send<number>(1u));
  CHECK(code == errc::closed);
}

/// Sets the variable that names the channel, and removes it again.
struct named {
  explicit named(const std::string& value) { ::setenv("COHORT_CHANNEL_FD", value.c_str(), 1); }
  named(const named&) = delete;
  ~named() { ::unsetenv("COHORT_CHANNEL_FD"); }
};

std::string why_no_parent() {
  asio::io_context context;
  try {
    (void)parent<talk>(context.get_executor());
  } catch (const std::system_error& error) {
    CHECK(error.code() == errc::no_parent);
    return error.what();
  }
  return "there is a parent";
}

// A child that has ended and left a process behind, which has the other end of the channel.
asio::awaitable<peer<talk>> start_leaving() {
  auto what = command::shell("sleep 600 & exit 0");
  auto started = co_await spawn<talk>(what.out(stdio::null).err(stdio::null));
  co_return started;
}

ASYNC_TEST("a channel ends with the child, whoever the child has left it to") {
  auto child = co_await start_leaving();
  const auto group = child.pid();
  const auto end = co_await child.receive();
  CHECK_FALSE(end);
  const auto handle = co_await child.receive_handle();
  CHECK_FALSE(handle);
  const descriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const number one{1u};
  const auto code = co_await error_of(child.send_handle(one, null));
  CHECK(code == errc::peer_closed);
  const auto status = co_await child.wait();
  CHECK(status.success());
  CHECK(::kill(-group, SIGKILL) == 0);
}

ASYNC_TEST("a handle that waits to be taken comes back when the child ends, whoever it has left the channel to") {
  auto child = co_await start_leaving();
  const auto group = child.pid();
  const descriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const number one{1u};
  const auto code = co_await error_of(child.send_handle(one, null));
  CHECK(code == errc::peer_closed);
  co_await child.wait();
  CHECK(::kill(-group, SIGKILL) == 0);
}

PLAIN_TEST("a loop does not wait for a child that has a channel and that nobody waits for") {
  asio::io_context context;
  std::optional<peer<talk>> child;
  const auto begin = [&]() -> asio::awaitable<void> { child.emplace(co_await start()); };
  asio::co_spawn(context, begin(), asio::detached);
  context.run();
  REQUIRE(child);
  CHECK(child->kill());
  context.restart();
  asio::co_spawn(context, child->closed(), [](std::exception_ptr failure, exit_status status) {
    CHECK_FALSE(failure);
    CHECK(status == exit_status::killed(SIGKILL));
  });
  context.run();
}

ASYNC_TEST("a child with a channel can be detached, and ends when the channel does") {
  pid_t pid = 0;
  {
    auto child = co_await start();
    pid = child.pid();
    child.detach();
    CHECK(child.pid() == 0);
    co_await child.send<number>(1u);
    const auto heard = co_await next(child);
    CHECK(heard == "1");
  }
  const bool reaped = co_await eventually([pid] { return ::kill(pid, 0) == -1; });
  CHECK(reaped);
}

PLAIN_TEST("a process that was started without a channel has no parent") {
  CHECK_FALSE(has_parent());
  CHECK(why_no_parent() == "parent: COHORT_CHANNEL_FD is not set: not started with a channel");
}

PLAIN_TEST("a variable that names no channel is no parent, and stays") {
  const descriptor file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  for (const std::string& value : {std::string(), std::string("x"), std::string("3x"), std::string(" 3"),
                                   std::string("-1"), std::string("1000000"), std::string("99999999999999999999"),
                                   std::to_string(file.get()), std::to_string(socket.get())}) {
    const named channel(value);
    CHECK(has_parent());
    CHECK(why_no_parent() == "parent: COHORT_CHANNEL_FD=" + value + " is no channel: not started with a channel");
    CHECK(has_parent());
  }
  CHECK(::fcntl(file.get(), F_GETFD) >= 0);
  CHECK(::fcntl(socket.get(), F_GETFD) >= 0);
}

ASYNC_TEST("a parent is taken once, and its descriptor becomes close-on-exec") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  ::fcntl(ends.second.get(), F_SETFD, 0);
  const named variable(std::to_string(ends.second.get()));
  CHECK(has_parent());
  auto up = parent<talk>(executor);
  (void)ends.second.release();
  CHECK_FALSE(has_parent());
  CHECK((::fcntl(up.native_handle(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(why_no_parent() == "parent: COHORT_CHANNEL_FD is not set: not started with a channel");
  channel<talk::to_child, talk::to_parent> down(executor, std::move(ends.first));
  co_await up.send<number>(3u);
  const auto heard = co_await next(down);
  CHECK(heard == "3");
}

}  // namespace
}  // namespace cohort::test::peer_test
