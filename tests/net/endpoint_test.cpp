// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/net/endpoint.hpp"

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>

#include "../support/fault.hpp"
#include "../support/harness.hpp"

namespace cohort::test::endpoint_test {
namespace {

struct problem {
  std::error_code code;
  std::string text;
};

template <class Function>
problem problem_of(Function function) {
  try {
    function();
  } catch (const std::system_error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

int option(const descriptor& socket, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  ::getsockopt(socket.get(), level, name, &value, &size);
  return value;
}

bool has_ipv6() {
  auto at = parse_endpoint("[::1]:0");
  return !problem_of([&] { open_listener(at, listen_settings()); }).code;
}

PLAIN_TEST("an address is a numeric one with a port") {
  for (const auto* text : {"127.0.0.1:8000", "0.0.0.0:1", "[::1]:8000", "[::]:65535", "10.1.2.3:0"}) {
    CHECK(to_string(parse_endpoint(text)) == text);
  }
  CHECK(to_string(parse_endpoint(":80")) == "0.0.0.0:80");
  CHECK(to_string(parse_endpoint("[0:0:0:0:0:0:0:1]:80")) == "[::1]:80");
}

PLAIN_TEST("everything else is refused with its text") {
  for (const auto* text : {"",
                           ":",
                           "8000",
                           "127.0.0.1",
                           "127.0.0.1:",
                           "127.0.0.1:http",
                           "127.0.0.1:70000",
                           "127.0.0.1:-1",
                           "127.0.0.1:+1",
                           "127.0.0.1: 80",
                           "127.0.0.1:80 ",
                           "127.0.0.1:80x",
                           "localhost:80",
                           "127.1:80",
                           "1.2.3.4.5:80",
                           "256.0.0.1:80",
                           "::1:80",
                           "::1",
                           "[::1]",
                           "[::1:80",
                           "::1]:80",
                           "[]:80",
                           "[127.0.0.1]:80",
                           "[::1]80",
                           "http://127.0.0.1:80"}) {
    const auto found = problem_of([&] { parse_endpoint(text); });
    CHECK(found.code == errc::invalid_option);
    CHECK(found.text == "listen " + std::string(text) + ": want ADDRESS:PORT: invalid option");
  }
}

PLAIN_TEST("an address may be a port, all addresses, or a name that is looked up") {
  using texts = std::vector<std::string>;
  CHECK(expand_endpoint("8000") == texts{"*:8000"});
  CHECK(expand_endpoint("*:8000") == texts{"*:8000"});
  CHECK(parse_endpoint("*:8000").port() == 8000);
  CHECK(parse_endpoint("*:8000").address().is_unspecified());
  for (const auto* text : {":80", "127.0.0.1:0", "[::1]:80"}) CHECK(expand_endpoint(text) == texts{text});
  const auto found = expand_endpoint("localhost:8000");
  REQUIRE_FALSE(found.empty());
  for (const auto& each : found) {
    CHECK(parse_endpoint(each).address().is_loopback());
    CHECK(parse_endpoint(each).port() == 8000);
  }
}

PLAIN_TEST("an address that is neither number nor name is refused with its text, and so is a name without an address") {
  for (const auto* text : {"", ":", "x", "localhost", "localhost:", "localhost:http", "localhost:70000", "127.1:80",
                           "256.0.0.1:80", "1.2.3.4.5:80", "::1:80", "[localhost]:80", "a b:80", "**:80", "[*]:80",
                           "http://localhost:80", "70000", "-1"}) {
    const auto found = problem_of([&] { expand_endpoint(text); });
    CHECK(found.code == errc::invalid_option);
    CHECK(found.text == "listen " + std::string(text) +
                            ": want ADDRESS:PORT, NAME:PORT, *:PORT or PORT, and an IPv6 address in brackets: "
                            "invalid option");
  }
  const std::string name(300, 'x');  // no resolver is asked for it
  const auto found = problem_of([&] { expand_endpoint(name + ":80"); });
  CHECK(found.text.starts_with("listen " + name + ":80: look up " + name + ": "));
}

PLAIN_TEST("IPV6_V6ONLY leaves the IPv4 addresses of a port to another socket") {
  if (!has_ipv6()) return;  // a machine without it
  auto six = parse_endpoint("[::]:0");
  listen_settings settings;
  settings.v6_only = true;
  const descriptor first = open_listener(six, settings);
  CHECK(option(first, IPPROTO_IPV6, IPV6_V6ONLY) == 1);
  check_unused(asio::ip::tcp::endpoint(asio::ip::address_v4::any(), six.port()));
  auto both = parse_endpoint("*:0");
  settings.v6_only = false;
  const descriptor second = open_listener(both, settings);
  CHECK(option(second, IPPROTO_IPV6, IPV6_V6ONLY) == 0);
  const asio::ip::tcp::endpoint four(asio::ip::address_v4::any(), both.port());
  CHECK(problem_of([&] { check_unused(four); }).code == std::errc::address_in_use);
}

PLAIN_TEST("a listener on port 0 gets one from the kernel, which the endpoint has afterwards") {
  auto at = parse_endpoint("127.0.0.1:0");
  const descriptor socket = open_listener(at, listen_settings());
  CHECK(at.port() != 0);
  CHECK(::fcntl(socket.get(), F_GETFD) == FD_CLOEXEC);
  CHECK((::fcntl(socket.get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK(option(socket, SOL_SOCKET, SO_ACCEPTCONN) == 1);
  CHECK(option(socket, SOL_SOCKET, SO_REUSEPORT) == 0);
  CHECK(option(socket, IPPROTO_TCP, TCP_DEFER_ACCEPT) == 0);
}

PLAIN_TEST("a port that is taken is an error that names it") {
  auto at = parse_endpoint("127.0.0.1:0");
  const descriptor socket = open_listener(at, listen_settings());
  const auto expected = "listen " + to_string(at) + ": Address already in use";
  listen_settings shared;
  shared.reuse_port = true;
  for (const auto& settings : {listen_settings(), shared}) {
    const auto found = problem_of([&] { open_listener(at, settings); });
    CHECK(found.code == std::error_code(EADDRINUSE, std::system_category()));
    CHECK(found.text == expected);
  }
  CHECK(problem_of([&] { check_unused(at); }).text == expected);
}

PLAIN_TEST("SO_REUSEPORT lets sockets share a port, and check_unused finds them") {
  auto at = parse_endpoint("127.0.0.1:0");
  listen_settings settings;
  settings.reuse_port = true;
  {
    const descriptor one = open_listener(at, settings);
    const descriptor two = open_listener(at, settings);
    CHECK(option(one, SOL_SOCKET, SO_REUSEPORT) == 1);
    CHECK(problem_of([&] { check_unused(at); }).code == std::error_code(EADDRINUSE, std::system_category()));
  }
  check_unused(at);
  const descriptor again = open_listener(at, settings);
}

PLAIN_TEST("a listener may wait for the first bytes of a connection") {
  auto at = parse_endpoint("127.0.0.1:0");
  listen_settings settings;
  settings.defer_accept = true;
  const descriptor socket = open_listener(at, settings);
  CHECK(option(socket, IPPROTO_TCP, TCP_DEFER_ACCEPT) > 0);
}

PLAIN_TEST("each step that fails names the address") {
  auto at = parse_endpoint("127.0.0.1:0");
  {
    const fault<&system::calls::socket> full(EMFILE);
    CHECK(problem_of([&] { open_listener(at, listen_settings()); }).text == "listen 127.0.0.1:0: Too many open files");
  }
  {
    const fault<&system::calls::bind> denied(EACCES);
    CHECK(problem_of([&] { open_listener(at, listen_settings()); }).text == "listen 127.0.0.1:0: Permission denied");
  }
  {
    const fault<&system::calls::listen> taken(EADDRINUSE);
    CHECK(problem_of([&] { open_listener(at, listen_settings()); }).text ==
          "listen 127.0.0.1:0: Address already in use");
  }
  auto foreign = parse_endpoint("192.0.2.1:0");
  CHECK(problem_of([&] { open_listener(foreign, listen_settings()); }).text ==
        "listen 192.0.2.1:0: Cannot assign requested address");
}

PLAIN_TEST("IPv6 serves as well") {
  if (!has_ipv6()) return;  // a machine without it
  auto at = parse_endpoint("[::1]:0");
  const descriptor socket = open_listener(at, listen_settings());
  CHECK(to_string(at) == "[::1]:" + std::to_string(at.port()));
  CHECK(problem_of([&] { check_unused(at); }).text == "listen " + to_string(at) + ": Address already in use");
}

}  // namespace
}  // namespace cohort::test::endpoint_test
