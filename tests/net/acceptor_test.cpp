// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/net/acceptor.hpp"

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../include/cohort/ipc/handle.hpp"
#include "../../include/cohort/net/endpoint.hpp"
#include "../../include/cohort/net/stop_listening.hpp"
#include "../../include/cohort/net/unix_listener.hpp"
#include "../../include/cohort/ipc/handle.hpp"
#include "../support/at_the_limit.hpp"
#include "../support/cancellation.hpp"
#include "../support/fault.hpp"
#include "../worker/client.hpp"

namespace cohort::test::acceptor_test {
namespace {

asio::ip::tcp::endpoint local() { return parse_endpoint("127.0.0.1:0"); }

ASYNC_TEST("a listener takes the connections of its queue in their order, and then none") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  CHECK(on.is_open());
  CHECK_FALSE(on.try_accept());
  std::vector<client> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(co_await client::connect(at));
  for (auto& each : clients) {
    co_await on.wait();
    const descriptor taken = on.try_accept();
    REQUIRE(taken);
    CHECK(::fcntl(taken.get(), F_GETFD) == FD_CLOEXEC);
    CHECK((::fcntl(taken.get(), F_GETFL) & O_NONBLOCK) != 0);
    asio::ip::tcp::endpoint peer;
    socklen_t size = static_cast<socklen_t>(peer.capacity());
    ::getpeername(taken.get(), peer.data(), &size);
    CHECK(peer == each.socket().local_endpoint());
  }
  CHECK_FALSE(on.try_accept());
}

ASYNC_TEST("a connection that failed while it waited is passed over") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  auto one = co_await client::connect(at);
  for (const int error : {EINTR, ECONNABORTED, EPROTO, EPERM, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH,
                          EOPNOTSUPP, ENETUNREACH}) {
    const fault<&system::calls::accept4> failing(error, 1, 2);
    const descriptor taken = on.try_accept();
    CHECK(failing.failed() == 2);
    CHECK(static_cast<bool>(taken) == (error == EINTR));  // the first time round there is one
  }
}

ASYNC_TEST("an accept for which there is no room says so, and loses nothing") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  auto one = co_await client::connect(at);
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
    const fault<&system::calls::accept4> failing(error);
    std::error_code code;
    try {
      on.try_accept();
    } catch (const std::system_error& thrown) {
      code = thrown.code();
    }
    CHECK(code == std::error_code(error, std::system_category()));
    CHECK(acceptor::is_shortage(code));
  }
  CHECK(on.try_accept());
}

/// What try_accept() takes, if it does not say that there is a shortage.
descriptor accept_or_shortage(acceptor& on) {
  try {
    return on.try_accept();
  } catch (const std::system_error& error) {
    if (!acceptor::is_shortage(error.code())) throw;
  }
  return descriptor();
}

/// Goes on until a connection is taken; says how many pauses it was.
asio::awaitable<int> pauses_until(acceptor& on, descriptor& taken) {
  int pauses = 0;
  while (!(taken = accept_or_shortage(on)) && pauses < 100) {
    ++pauses;
    co_await on.pause();
  }
  co_return pauses;
}

ASYNC_TEST("a process at its limit accepts one connection after the other in the place of the reserve") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  std::vector<client> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(co_await client::connect(at));
  descriptor taken, next;
  {
    const at_the_limit full;
    const int waited = co_await pauses_until(on, taken);
    CHECK(waited == 20);
    CHECK((::fcntl(taken.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(::write(taken.get(), "on\n", 3) == 3);
    for (int i = 0; i < 3; ++i) {  // it is held, and nothing else is free
      CHECK_FALSE(accept_or_shortage(on));
      co_await on.pause();
    }
    taken.reset();
    CHECK(accept_or_shortage(on));  // at once, and closed again
    CHECK(accept_or_shortage(on));
  }
  const auto answer = co_await clients[0].line();
  CHECK(answer == "on");
  CHECK(on.try_accept());
  CHECK_FALSE(on.try_accept());

  // The reserve is there again, and another shortage is waited for as the first one was.
  clients.push_back(co_await client::connect(at));
  const at_the_limit full;
  const int waited = co_await pauses_until(on, taken);
  CHECK(waited == 20);
  CHECK(taken);
}

ASYNC_TEST("a listener that was opened at the limit takes its reserve later") {
  auto at = local();
  descriptor socket = open_listener(at, listen_settings());
  auto one = co_await client::connect(at);
  std::optional<acceptor> on;
  {
    const fault<&system::calls::open> full(EMFILE, 1, every_time);
    const fault<&system::calls::accept4> accepts(0, every_time);
    on.emplace(co_await asio::this_coro::executor, std::move(socket));
    CHECK_FALSE(accept_or_shortage(*on));
    CHECK(full.failed() == 2);
    CHECK(accepts.calls() == 0);  // a connection is not to be the last one for want of a reserve
  }
  const fault<&system::calls::open> opens(0, every_time);
  CHECK(on->try_accept());
  CHECK_FALSE(on->try_accept());
  CHECK(opens.calls() == 1);
}

ASYNC_TEST("without /dev/null there is no reserve, and a shortage is waited for") {
  auto at = local();
  descriptor socket = open_listener(at, listen_settings());
  auto one = co_await client::connect(at);
  const fault<&system::calls::open> none(ENOENT, 1, every_time);
  acceptor on(co_await asio::this_coro::executor, std::move(socket));
  descriptor taken;
  const fault<&system::calls::accept4> full(EMFILE, 1, 23);
  const int waited = co_await pauses_until(on, taken);
  CHECK(taken);
  CHECK(waited == 23);
  CHECK(none.failed() == 1);
}

ASYNC_TEST("the reserve is kept when it does not help") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  auto one = co_await client::connect(at);
  for (int i = 0; i < 20; ++i) co_await on.pause();
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
    const fault<&system::calls::accept4> failing(error, 1, every_time);
    const fault<&system::calls::open> opens(0, every_time);
    CHECK_FALSE(accept_or_shortage(on));
    const bool spent = error == EMFILE || error == ENFILE;
    CHECK(failing.calls() == (spent ? 2 : 1));
    CHECK(opens.calls() == (spent ? 1 : 0));
  }
  {
    const fault<&system::calls::accept4> failing(EMFILE);  // meanwhile somebody else has taken it
    CHECK(on.try_accept());
  }
  const fault<&system::calls::accept4> failing(EMFILE);
  CHECK_FALSE(on.try_accept());
  CHECK(failing.calls() == 2);
}

ASYNC_TEST("a listener that is broken says so") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  const fault<&system::calls::accept4> failing(EINVAL, 1, every_time);
  std::error_code code;
  try {
    on.try_accept();
  } catch (const std::system_error& thrown) {
    code = thrown.code();
  }
  CHECK(code == std::error_code(EINVAL, std::system_category()));
  CHECK_FALSE(acceptor::is_shortage(code));
}

ASYNC_TEST("closing a listener ends those who wait for it or pause") {
  auto at = local();
  const auto executor = co_await asio::this_coro::executor;
  acceptor on(executor, open_listener(at, listen_settings()));
  std::error_code waited, paused;
  const auto wait = [&]() -> asio::awaitable<void> { waited = co_await error_of(on.wait()); };
  const auto pause = [&]() -> asio::awaitable<void> { paused = co_await error_of(on.pause()); };
  asio::co_spawn(executor, wait(), asio::detached);
  asio::co_spawn(executor, pause(), asio::detached);
  co_await yield(3);
  on.close();
  CHECK_FALSE(on.is_open());
  const bool ended = co_await eventually([&] { return waited && paused; });
  CHECK(ended);
  CHECK(waited == operation_aborted());
  CHECK(paused == operation_aborted());
  on.close();
}

PLAIN_TEST("a cancelled wait for a connection leaves it to the next one") {
  const auto runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    auto at = local();
    acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
    auto one = co_await client::connect(at);
    const bool waited = co_await cancelled(on.wait());
    if (!waited) co_await on.wait();
    CHECK(on.try_accept());
  });
  CHECK(runs > 0);
}

/// Takes all that it gets, and wants so many.
struct taking {
  std::vector<descriptor> taken;
  std::size_t wants = 100;
  acceptor::taker take = [this](descriptor one) { taken.push_back(std::move(one)); };
  acceptor::condition wanted = [this] { return taken.size() < wants; };
};

ASYNC_TEST("accept_some takes as many as are wanted, and says whether there may be more") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  std::vector<client> clients;
  for (int i = 0; i < 6; ++i) clients.push_back(co_await client::connect(at));
  taking some;
  auto result = co_await on.accept_some(2, some.take, some.wanted);
  CHECK(result == accept_result::more);
  CHECK(some.taken.size() == 2);
  some.wants = 3;
  result = co_await on.accept_some(2, some.take, some.wanted);
  CHECK(result == accept_result::more);
  CHECK(some.taken.size() == 3);
  some.wants = 100;
  result = co_await on.accept_some(100, some.take, some.wanted);
  CHECK(result == accept_result::empty);
  CHECK(some.taken.size() == 6);
  result = on.accept_waiting(100, some.take, some.wanted);
  CHECK(result == accept_result::empty);
}

ASYNC_TEST("accept_some lets a shortage pass, and loses nothing") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  auto one = co_await client::connect(at);
  taking some;
  {
    const fault<&system::calls::accept4> full(EMFILE, 1, 2);
    auto result = co_await on.accept_some(1, some.take, some.wanted);
    CHECK(result == accept_result::shortage);
    result = on.accept_waiting(1, some.take, some.wanted);
    CHECK(result == accept_result::shortage);
  }
  CHECK(some.taken.empty());
  const auto result = co_await on.accept_some(1, some.take, some.wanted);
  CHECK(result == accept_result::more);
  CHECK(some.taken.size() == 1);
}

ASYNC_TEST("a tcp listener that somebody has shut down listens again when it is looked at") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  const descriptor of_another(::fcntl(on.native_handle(), F_DUPFD_CLOEXEC, 3));
  for (int i = 0; i < 2; ++i) {
    REQUIRE(::shutdown(of_another.get(), SHUT_RDWR) == 0);
    CHECK_FALSE(on.try_accept());
    auto one = co_await client::connect(at);
    CHECK(on.try_accept());
  }
}

ASYNC_TEST("accept_some throws when the listener is broken, and what is thrown by what takes the connection") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  auto one = co_await client::connect(at);
  taking some;
  {
    const fault<&system::calls::accept4> broken(EINVAL, 1, every_time);
    const auto code = co_await error_of(on.accept_some(1, some.take, some.wanted));
    CHECK(code == std::error_code(EINVAL, std::system_category()));
  }
  const acceptor::taker refuses = [](descriptor) { throw_error("take", EPERM); };
  const auto code = co_await error_of(on.accept_some(1, refuses, some.wanted));
  CHECK(code == std::error_code(EPERM, std::system_category()));
}

ASYNC_TEST("accept_some ends when the acceptor is closed, be it by what takes the connection") {
  auto at = local();
  const auto executor = co_await asio::this_coro::executor;
  taking some;
  std::optional<accept_result> result;
  acceptor on(executor, open_listener(at, listen_settings()));
  const auto wait = [&]() -> asio::awaitable<void> { result = co_await on.accept_some(1, some.take, some.wanted); };
  asio::co_spawn(executor, wait(), asio::detached);
  co_await yield(3);
  on.close();
  const bool ended = co_await eventually([&] { return result.has_value(); });
  CHECK(ended);
  CHECK(result == accept_result::ended);

  acceptor other(executor, open_listener(at, listen_settings()));
  std::vector<client> clients;
  for (int i = 0; i < 2; ++i) clients.push_back(co_await client::connect(at));
  const acceptor::taker closes = [&](descriptor) { other.close(); };
  result = co_await other.accept_some(2, closes, some.wanted);
  CHECK(result == accept_result::ended);
  result = co_await other.accept_some(2, closes, some.wanted);
  CHECK(result == accept_result::ended);
}

PLAIN_TEST("a cancelled accept_some leaves the connection to the next one, or has taken it") {
  const auto runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    auto at = local();
    acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
    auto one = co_await client::connect(at);
    taking some;
    const auto result = co_await cancelled(on.accept_some(1, some.take, some.wanted));
    CHECK(some.taken.size() == (result ? 1 : 0));
    if (!result) CHECK(on.accept_waiting(1, some.take, some.wanted) == accept_result::more);
    CHECK(some.taken.size() == 1);
  });
  CHECK(runs > 0);
}

ASYNC_TEST("another process that makes the socket blocking does not block an accept") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  const int flags = ::fcntl(on.native_handle(), F_GETFL);
  ::fcntl(on.native_handle(), F_SETFL, flags & ~O_NONBLOCK);
  // as the constructor of its copy would
  acceptor copy(co_await asio::this_coro::executor, descriptor(::fcntl(on.native_handle(), F_DUPFD_CLOEXEC, 0)));
  CHECK_FALSE(on.try_accept());
}

ASYNC_TEST("a local listener that takes no more connections gives up those that wait, and refuses the others") {
  const auto name = parse_unix_endpoint("unix:@cohort-test-" + std::to_string(::getpid()));
  acceptor on(co_await asio::this_coro::executor, open_unix_listener(name, 8).socket);
  CHECK(on.accepts() == handle_kind::local_socket);
  CHECK_FALSE(on.ended());
  auto first = co_await local_client::connect(name), second = co_await local_client::connect(name);
  stop_handshakes(on.native_handle());
  const auto refused = co_await ask_once(name, "x");
  CHECK(refused == "(refused)");
  for (int i = 0; i < 2; ++i) {
    co_await on.wait();
    const descriptor taken = on.try_accept();
    REQUIRE(taken);
    CHECK(kind_of(taken.get()) == handle_kind::local_socket);
  }
  CHECK_FALSE(on.try_accept());
  CHECK(on.ended());
  taking some;
  const auto result = co_await on.accept_some(1, some.take, some.wanted);
  CHECK(result == accept_result::ended);
}

ASYNC_TEST("a tcp listener never ends by itself") {
  auto at = local();
  acceptor on(co_await asio::this_coro::executor, open_listener(at, listen_settings()));
  CHECK(on.accepts() == handle_kind::tcp_socket);
  stop_handshakes(on.native_handle());
  CHECK_FALSE(on.try_accept());
  CHECK_FALSE(on.ended());
}

/// What the epoll sets of this process watch (proc_pid_fdinfo(5)).
std::size_t watched() {
  std::size_t result = 0;
  for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(each.path(), gone) != "anon_inode:[eventpoll]") continue;
    std::ifstream info("/proc/self/fdinfo/" + each.path().filename().string());
    for (std::string line; std::getline(info, line);) result += line.starts_with("tfd:") ? 1 : 0;
  }
  return result;
}

ASYNC_TEST("a listener that another process has too is watched no more after stop_listening") {
  const auto executor = co_await asio::this_coro::executor;
  const asio::ip::tcp::acceptor other(executor, {asio::ip::address_v4::loopback(), 0});  // the loop makes its set
  const auto before = watched();
  asio::ip::tcp::acceptor acceptor(executor, {asio::ip::address_v4::loopback(), 0});
  const descriptor of_the_other(::fcntl(acceptor.native_handle(), F_DUPFD_CLOEXEC, 3));
  CHECK(watched() == before + 1);
  stop_listening(acceptor);
  CHECK(watched() == before);
  CHECK_FALSE(acceptor.is_open());
  stop_listening(acceptor);  // there is nothing to let go of
  CHECK(::fcntl(of_the_other.get(), F_GETFD) != -1);
}

}  // namespace
}  // namespace cohort::test::acceptor_test
