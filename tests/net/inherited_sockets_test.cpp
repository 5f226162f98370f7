// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/net/inherited_sockets.hpp"

#include <string>
#include <system_error>
#include <vector>

#include <unistd.h>

#include "../process/children.hpp"
#include "../cluster/service/manager.hpp"

namespace cohort::test::inherited_sockets_test {
namespace {

// Descriptors 3 and on are taken in the test itself, so what is there is looked at in a process of its own (the verb
// `inherited`), which prints a line for each.
asio::awaitable<std::string> inherited(command program) {
  auto started = co_await spawn(std::move(program.out(stdio::pipe).err(stdio::pipe)));
  auto text = co_await started.out().read_all();
  text += co_await started.err().read_all();
  co_await started.wait();
  co_return text;
}

descriptor make_socket(int domain, int type, bool listening) {
  descriptor result(::socket(domain, type | SOCK_CLOEXEC, 0));
  if (listening) REQUIRE(::listen(result.get(), 1) == 0);
  return result;
}

ASYNC_TEST("inherited sockets have names, numbers, and the kind that the kernel says") {
  const auto tcp = make_socket(AF_INET, SOCK_STREAM, true), udp = make_socket(AF_INET, SOCK_DGRAM, false);
  auto program = helper("inherited", "pid=own", "LISTEN_FDS=3", "LISTEN_FDNAMES=http:metrics:http");
  program.fd(3, stdio::borrow(tcp.get())).fd(4, stdio::borrow(udp.get())).fd(5, stdio::null);
  const auto text = co_await inherited(program);
  CHECK(text ==
        "3 http: tcp acceptor, close-on-exec\n"
        "4 metrics: udp socket, close-on-exec\n"
        "5 http: descriptor, close-on-exec\n"
        "named http: 2, then 0\n"
        "with number 4: 1, then 0\n"
        "left: 0\n"
        "again: 0\n"
        "variables: none\n");
}

ASYNC_TEST("inherited sockets without names are unknown, as systemd calls them") {
  const auto tcp = make_socket(AF_INET6, SOCK_STREAM, true);
  auto program = helper("inherited", "pid=own", "LISTEN_FDS=1");
  const auto text = co_await inherited(program.fd(3, stdio::borrow(tcp.get())));
  CHECK(text.starts_with("3 unknown: tcp acceptor, close-on-exec\n"));
}

ASYNC_TEST("those of another process, and none, are none") {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"LISTEN_FDS=1"},
      {"pid=own"},
      {"pid=own", "LISTEN_FDS=0"},
      {"pid=own", "LISTEN_FDS=0", "LISTEN_FDNAMES="},
      {"LISTEN_PID=1", "LISTEN_FDS=1"},
      {"LISTEN_PID=1", "LISTEN_FDS=many", "LISTEN_FDNAMES=a:b"},
  };
  for (const auto& each : cases) {
    auto program = helper("inherited");
    const auto text = co_await inherited(program.args(each).fd(3, stdio::null));
    CHECK(text ==
          "named http: 0, then 0\n"
          "with number 4: 0, then 0\n"
          "left: 0\n"
          "again: 0\n"
          "variables: none\n");
  }
}

ASYNC_TEST("a variable that makes no sense is an error that names it") {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"pid=own", "LISTEN_FDS=many"}, "LISTEN_FDS=many: invalid option"},
      {{"pid=own", "LISTEN_FDS="}, "LISTEN_FDS=: invalid option"},
      {{"pid=own", "LISTEN_FDS=-1"}, "LISTEN_FDS=-1: invalid option"},
      {{"pid=own", "LISTEN_FDS=1 "}, "LISTEN_FDS=1 : invalid option"},
      {{"pid=own", "LISTEN_FDS=2147483645"}, "LISTEN_FDS=2147483645: invalid option"},
      {{"LISTEN_PID=me", "LISTEN_FDS=1"}, "LISTEN_PID=me: invalid option"},
      {{"pid=own", "LISTEN_FDS=1", "LISTEN_FDNAMES=a:b"}, "LISTEN_FDNAMES=a:b with LISTEN_FDS=1: invalid option"},
      {{"pid=own", "LISTEN_FDS=1", "LISTEN_FDNAMES="}, "LISTEN_FDNAMES= with LISTEN_FDS=1: invalid option"},
      {{"pid=own", "LISTEN_FDS=3"}, "fd 4: Bad file descriptor"},
      {{"pid=own", "LISTEN_FDS=2147483644"}, "fd 4: Bad file descriptor"},
  };
  for (const auto& [arguments, error] : cases) {
    auto program = helper("inherited");
    const auto text = co_await inherited(program.args(arguments).fd(3, stdio::null));
    CHECK(text == "inherited sockets: " + error + "\nvariables: none\n");
  }
}

PLAIN_TEST("a name may be empty, and only the exact one is found") {
  CHECK(inherited_sockets().all().empty());
  CHECK(inherited_sockets().take("").empty());
  CHECK(inherited_sockets().take(3).empty());
}

}  // namespace
}  // namespace cohort::test::inherited_sockets_test
