// SPDX-License-Identifier: BSL-1.0
// What tests of the ipc folder have a child do.
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <exception>
#include <numeric>
#include <string>
#include <utility>
#include <variant>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../include/cohort/core/system.hpp"
#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "../ipc/protocol.hpp"
#include "verb.hpp"

namespace cohort::test::ipc_verbs {
namespace {

template <class Protocol>
using to_parent = channel<typename Protocol::to_parent, typename Protocol::to_child>;

template <class Protocol>
int run(asio::awaitable<int> (*job)(to_parent<Protocol>&)) {
  asio::io_context context;
  auto up = parent<Protocol>(context.get_executor());
  int status = 0;
  asio::co_spawn(context, job(up), [&](std::exception_ptr error, int result) {
    if (error) std::rethrow_exception(error);
    status = result;
  });
  context.run();
  return status;
}

// Lets what is received find no free descriptor; everything else does, sanitizers above all.
ssize_t receive_without_room(int fd, msghdr* message, int flags) {
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const int next = ::dup(0);
  ::close(next);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(next);
  ::setrlimit(RLIMIT_NOFILE, &none);
  const auto got = ::recvmsg(fd, message, flags);
  const int error = errno;
  ::setrlimit(RLIMIT_NOFILE, &before);
  errno = error;
  return got;
}

asio::awaitable<void> take(to_parent<talk>& up, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    auto got = co_await up.receive_handle();
    if (!got) co_return;
    const std::string line = "from the child";
    if (::write(got->handle.native_handle(), line.data(), line.size()) < 0) throw_error("write", errno);
    co_await up.send<text>(std::string(to_string(got->handle.kind())));
  }
}

// An order that ends the process gives its exit status.
asio::awaitable<int> carry_out(to_parent<talk>& up, order what) {
  if (what.what == "exit") co_return static_cast<int>(what.count);
  if (what.what == "say") {
    for (std::uint64_t i = 0; i < what.count; ++i) up.post(number{i});
    co_await up.flush();
  } else if (what.what == "say half") {
    co_await up.send<number>(1u);
    char bytes[20] = {};
    wire::put_header(bytes, wire::kind::message, 100);
    if (::send(up.native_handle(), bytes, sizeof bytes, 0) != sizeof bytes) throw_error("send", errno);
    ::raise(SIGKILL);
  } else if (what.what == "take") {
    co_await take(up, what.count);
  } else if (what.what == "decline") {
    up.decline_handles();
    co_await up.send<nothing>();
  } else if (what.what == "descriptors") {
    system::call.recvmsg = what.count != 0 ? ::recvmsg : receive_without_room;
    co_await up.send<nothing>();
  } else if (what.what == "pause") {
    co_await up.send<nothing>();
    ::pause();
  } else if (what.what == "add up") {
    const auto got = co_await up.receive_loan<std::uint64_t>();
    auto sums = co_await up.loan<std::uint64_t>(2);
    sums[0] = std::accumulate(got->view.begin(), got->view.end(), std::uint64_t{0});
    sums[1] = got->view[0];
    const nothing done;
    co_await up.send(done, std::move(sums));
  } else if (what.what == "hold a loan") {
    const auto got = co_await up.receive_loan<std::uint64_t>();
    co_await up.send<nothing>();
    ::pause();
  } else if (what.what == "lend and die") {
    for (std::uint64_t i = 0; i < what.count; ++i) {
      auto numbers = co_await up.loan<std::uint64_t>(1000);
      std::iota(numbers.begin(), numbers.end(), i);
      const nothing done;
      co_await up.send(done, std::move(numbers));
    }
    ::raise(SIGKILL);
  } else if (what.what == "look") {
    const bool stays = (::fcntl(up.native_handle(), F_GETFD) & FD_CLOEXEC) == 0;
    co_await up.send<text>(std::to_string(up.native_handle()) + (has_parent() ? ", named" : ", not named") +
                           (stays ? ", inherited" : ", close-on-exec"));
  }
  co_return -1;
}

asio::awaitable<int> obey(to_parent<talk>& up) {
  while (auto message = co_await up.receive()) {
    if (auto* what = std::get_if<order>(&*message)) {
      const int status = co_await carry_out(up, std::move(*what));
      if (status >= 0) co_return status;
    } else if (const auto* n = std::get_if<number>(&*message)) {
      co_await up.send(*n);
    } else if (const auto* t = std::get_if<text>(&*message)) {
      co_await up.send(*t);
    } else {
      co_await up.send<nothing>();
    }
  }
  co_await up.disconnect();
  co_return 0;
}

// Gives back what it gets, and carries out orders.
const verb obeying("ipc-obey", [](const verb::arguments&) { return run<talk>(obey); });

asio::awaitable<int> measure(to_parent<sums>& up) {
  while (auto message = co_await up.receive()) co_await up.send<number>(message->value.size());
  co_return 0;
}

// Answers each text with its length.
const verb measuring("ipc-measure", [](const verb::arguments&) { return run<sums>(measure); });

asio::awaitable<void> give(to_parent<sums>& up, const bool& over, std::uint64_t& taken) {
  const descriptor object(::eventfd(0, EFD_CLOEXEC));
  const number what{0};
  while (!over) {
    co_await up.send_handle(what, object);
    ++taken;
  }
}

asio::awaitable<void> receive_bulk(to_parent<sums> up) {
  bool over = false;
  std::uint64_t taken = 0;
  task_group giving(up.get_executor());
  giving.start(give(up, over, taken), [](std::exception_ptr) {});
  const auto message = co_await up.receive();
  over = true;
  co_await up.send<number>(message ? taken : 0);
  co_await giving.wait_empty();
  co_await up.disconnect();
}

// Gives handles, one after the other, until a large message is here, and tells how many were taken by then.
const verb receiving_bulk("ipc-bulk", [](const verb::arguments&) {
  asio::io_context context;
  channel_options options;
  options.max_message = 1 << 30;
  asio::co_spawn(context, receive_bulk(parent<sums>(context.get_executor(), options)), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  context.run();
  return 0;
});

}  // namespace
}  // namespace cohort::test::ipc_verbs
