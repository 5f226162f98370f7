// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/net/proxy_protocol.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../../include/cohort/core/error.hpp"
#include "../../include/cohort/net/endpoint.hpp"
#include "../support/cancellation.hpp"
#include "../support/fault.hpp"

namespace cohort::test::proxy_protocol_test {
namespace {

using tcp = asio::ip::tcp;
using local_socket = asio::local::stream_protocol::socket;

/// A connection between a proxy and a server. Neither socket is non-blocking.
struct connection {
  explicit connection(const asio::any_io_executor& executor) : proxy(executor), server(executor) {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    proxy.assign(asio::local::stream_protocol(), ends[0]);
    server.assign(asio::local::stream_protocol(), ends[1]);
  }

  void put(std::string_view bytes) {
    const auto size = ::write(proxy.native_handle(), bytes.data(), bytes.size());
    REQUIRE(size == static_cast<ssize_t>(bytes.size()));
  }

  void end() { proxy.shutdown(local_socket::shutdown_send); }

  /// What is in the socket of the server.
  std::string rest() {
    std::string result(server.available(), '\0');
    if (!result.empty()) result.resize(server.read_some(asio::buffer(result)));
    return result;
  }

  local_socket proxy, server;
};

proxy_header_options within(std::chrono::milliseconds limit) {
  proxy_header_options result;
  result.timeout = limit;
  return result;
}

/// How a read has ended.
struct outcome {
  bool ended = false;
  proxy_header header;
  std::error_code error;
  std::string text;  // of the error
};

void start_reading(connection& at, outcome& result, proxy_header_options options = proxy_header_options()) {
  asio::co_spawn(at.server.get_executor(), read_proxy_header(at.server, options),
                 [&result](std::exception_ptr failure, proxy_header header) {
                   result.ended = true;
                   result.header = std::move(header);
                   if (!failure) return;
                   const auto error = detail::system_error_in(failure);
                   REQUIRE(error);
                   result.error = error->code();
                   result.text = error->what();
                 });
}

asio::awaitable<void> until_ended(const outcome& result) {
  while (!result.ended) co_await yield();
}

/// Puts one byte after the other, and what is far behind in larger pieces, each when the one before has been taken. The
/// last byte comes together with what follows.
asio::awaitable<void> trickle(connection& at, const outcome& result, std::string bytes, std::string behind) {
  std::size_t size = 1;
  for (std::size_t i = 0; i + 1 < bytes.size() && !result.ended; i += size) {
    size = std::min(i < 64 ? 1 : i / 2, bytes.size() - 1 - i);
    at.put({&bytes[i], size});
    while (!result.ended && at.server.available() != 0) co_await yield();
  }
  if (!result.ended) at.put(bytes.substr(bytes.size() - 1) + behind);
}

std::string version_2(unsigned command, unsigned kind, const std::string& addresses, unsigned version = 2) {
  std::string result("\r\n\r\n\0\r\nQUIT\n", 12);
  for (const auto byte : {version << 4 | command, kind}) result += static_cast<char>(byte);
  for (const auto byte : {addresses.size() >> 8, addresses.size()}) result += static_cast<char>(byte);
  return result + addresses;
}

std::string addition(unsigned type, const std::string& value) {
  std::string result;
  for (const auto byte : {std::size_t(type), value.size() >> 8, value.size()}) result += static_cast<char>(byte);
  return result + value;
}

std::string path(std::string text) {
  text.resize(108, '\0');
  return text;
}

const std::string four("\x01\x02\x03\x04\x7f\0\0\x01\x1f\x90\x01\xbb", 12);
const std::string six(
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
    "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x02"
    "\xff\xff\0\0",
    36);

std::string describe(const proxy_header& header) {
  const auto end = [](const std::optional<tcp::endpoint>& at, std::string text) {
    for (char& c : text) c = c == '\0' ? '@' : c;
    return at ? to_string(*at) : text.empty() ? "-" : text;
  };
  return fmt::format("v{} {}{} > {} +{}", header.version, header.local ? "local " : "",
                     end(header.source, header.source_path), end(header.destination, header.destination_path),
                     header.tlvs.size());
}

struct good_header {
  std::string bytes;
  std::string says;
};

const std::vector<good_header>& good_headers() {
  static const std::vector<good_header> all = {
      {"PROXY TCP4 1.2.3.4 127.0.0.1 8080 443\r\n", "v1 1.2.3.4:8080 > 127.0.0.1:443 +0"},
      {"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", "v1 255.255.255.255:65535 > 0.0.0.0:0 +0"},
      {"PROXY TCP6 2001:db8::1 FE80::2 65535 0\r\n", "v1 [2001:db8::1]:65535 > [fe80::2]:0 +0"},
      {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n",
       "v1 [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 > [ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535 +0"},
      {"PROXY TCP6 ::ffff:1.2.3.4 :: 1 2\r\n", "v1 [::ffff:1.2.3.4]:1 > [::]:2 +0"},
      {"PROXY UNKNOWN\r\n", "v1 - > - +0"},
      {"PROXY UNKNOWN  what\rever\r\n", "v1 - > - +0"},
      {"PROXY UNKNOWN " + std::string(91, 'x') + "\r\n", "v1 - > - +0"},  // 107 bytes
      {version_2(1, 0x11, four), "v2 1.2.3.4:8080 > 127.0.0.1:443 +0"},
      {version_2(1, 0x21, six), "v2 [2001:db8::1]:65535 > [fe80::2]:0 +0"},
      {version_2(1, 0x31, path("/run/a.sock") + path(std::string("\0b", 2))), "v2 /run/a.sock > @b +0"},
      {version_2(1, 0x31, path("") + path(std::string(108, 'x'))), "v2 - > " + std::string(108, 'x') + " +0"},
      {version_2(1, 0x11, four + addition(2, "example.org")), "v2 1.2.3.4:8080 > 127.0.0.1:443 +14"},
      {version_2(1, 0x21, six + addition(4, std::string(1000, '\0'))), "v2 [2001:db8::1]:65535 > [fe80::2]:0 +1003"},
      {version_2(1, 0x12, four + addition(5, "x")), "v2 - > - +4"},  // not TCP
      {version_2(1, 0x22, six), "v2 - > - +0"},
      {version_2(1, 0x32, path("a") + path("b")), "v2 - > - +0"},
      {version_2(1, 0x10, four), "v2 - > - +0"},
      {version_2(1, 0x00, ""), "v2 - > - +0"},
      {version_2(1, 0x00, addition(5, "x")), "v2 - > - +4"},
      {version_2(1, 0x01, "an address of any form"), "v2 - > - +0"},
      {version_2(0, 0x00, ""), "v2 local - > - +0"},
      {version_2(0, 0x11, four), "v2 local - > - +0"},
      {version_2(0, 0xff, "ignored"), "v2 local - > - +0"},
  };
  return all;
}

struct bad_header {
  std::string bytes;
  std::string what;
};

const std::vector<bad_header>& bad_headers() {
  static const std::vector<bad_header> all = {
      {"GET / HTTP/1.1\r\n\r\n", "begins with \"GET / HTTP/1.1??\""},
      {"\x16\x03\x01", "begins with \"???\""},
      {"proxy TCP4 1.2.3.4 127.0.0.1 8080 443\r\n", "begins with \"proxy TCP4 1.2.3\""},
      {"PROXY\r\n", "begins with \"PROXY??\""},
      {"PROXY\tTCP4 1.2.3.4 127.0.0.1 8080 443\r\n", "begins with \"PROXY?TCP4 1.2.3\""},
      {std::string("\r\n\r\n\0\r\nQUIT\r", 12), "begins with \"????"},
      {"\r\n\r\nGET / HTTP/1.1\r\n\r\n", "begins with \"????GET"},
      {"PROXY UNKNOWN\n", "a line that ends without a carriage return"},
      {"PROXY TCP4 1.2.3.4 127.0.0.1 8080 443\n", "a line that ends without a carriage return"},
      {"PROXY UNKNOWN " + std::string(92, 'x') + "\r\n", "a line of more than 107 bytes"},
      {"PROXY " + std::string(200, 'x'), "a line of more than 107 bytes"},
      {"PROXY \r\n", "protocol \"\""},
      {"PROXY UNKNOWNS\r\n", "protocol \"UNKNOWNS\""},
      {"PROXY UDP4 1.2.3.4 127.0.0.1 8080 443\r\n", "protocol \"UDP4\""},
      {"PROXY  TCP4 1.2.3.4 127.0.0.1 8080 443\r\n", "protocol \"\""},
      {"PROXY TCP4\r\n", "address \"\""},
      {"PROXY TCP4  1.2.3.4 127.0.0.1 8080 443\r\n", "address \"\""},
      {"PROXY TCP4 1.2.3 127.0.0.1 8080 443\r\n", "address \"1.2.3\""},
      {"PROXY TCP4 1.2.3.256 127.0.0.1 8080 443\r\n", "address \"1.2.3.256\""},
      {"PROXY TCP4 1.2.3.04 127.0.0.1 8080 443\r\n", "address \"1.2.3.04\""},
      {"PROXY TCP4 ::1 127.0.0.1 8080 443\r\n", "address \"::1\""},
      {"PROXY TCP4 1.2.3.4 ::1 8080 443\r\n", "address \"::1\""},
      {std::string("PROXY TCP4 1.2.3.4\0 127.0.0.1 8080 443\r\n", 41), "address \"1.2.3.4?\""},
      {"PROXY TCP6 127.0.0.1 ::1 8080 443\r\n", "address \"127.0.0.1\""},
      {"PROXY TCP6 fe80::1%lo ::1 8080 443\r\n", "address \"fe80::1%lo\""},
      {"PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 8080 443\r\n", "address \"1:2:3:4:5:6:7:8:9\""},
      {"PROXY TCP4 1.2.3.4 127.0.0.1\r\n", "port \"\""},
      {"PROXY TCP4 1.2.3.4 127.0.0.1 8080\r\n", "port \"\""},
      {"PROXY TCP4 1.2.3.4 127.0.0.1 8080 443 \r\n", "port \"443 \""},
      {"PROXY TCP4 1.2.3.4 127.0.0.1 8080 65536\r\n", "port \"65536\""},
      {"PROXY TCP4 1.2.3.4 127.0.0.1 -1 443\r\n", "port \"-1\""},
      {"PROXY TCP4 1.2.3.4 127.0.0.1 +1 443\r\n", "port \"+1\""},
      {"PROXY TCP4 1.2.3.4 127.0.0.1 080 443\r\n", "port \"080\""},
      {"PROXY TCP4 1.2.3.4 127.0.0.1 http 443\r\n", "port \"http\""},
      {"PROXY TCP4 1.2.3.4 127.0.0.1 8080 443\r\r\n", "port \"443?\""},
      {version_2(1, 0x11, four, 1), "version 1"},
      {version_2(1, 0x11, four, 3), "version 3"},
      {version_2(2, 0x11, four), "command 2"},
      {version_2(1, 0x41, four), "address family and protocol 0x41"},
      {version_2(1, 0x13, four), "address family and protocol 0x13"},
      {version_2(1, 0x11, four.substr(1)), "11 bytes for addresses of family and protocol 0x11"},
      {version_2(1, 0x21, four), "12 bytes for addresses of family and protocol 0x21"},
      {version_2(1, 0x31, path("a") + "b"), "109 bytes for addresses of family and protocol 0x31"},
      {version_2(1, 0x11, four + "x"), "additions that do not end after 1 bytes"},
      {version_2(1, 0x11, four + addition(1, "h2") + addition(2, "abc").substr(0, 5)),
       "additions that do not end after 10 bytes"},
      {version_2(1, 0x00, std::string(4081, '\0')), "4097 bytes, more than 4096"},
      {version_2(0, 0x00, std::string(65535, '\0')), "65551 bytes, more than 4096"},
  };
  return all;
}

ASYNC_TEST("a header says who the client is, and what follows it stays in the socket") {
  for (const auto& [bytes, says] : good_headers()) {
    CAPTURE(says);
    for (const std::string behind : {"", "G", "\r\n", "\n", "GET / HTTP/1.1\r\n\r\n"}) {
      connection at(co_await asio::this_coro::executor);
      at.put(bytes + behind);
      const auto header = co_await read_proxy_header(at.server);
      CHECK(describe(header) == says);
      CHECK(at.rest() == behind);
      CHECK((::fcntl(at.server.native_handle(), F_GETFL) & O_NONBLOCK) == 0);  // there was no wait
    }
  }
}

ASYNC_TEST("a header may arrive byte by byte") {
  for (const auto& [bytes, says] : good_headers()) {
    CAPTURE(says);
    connection at(co_await asio::this_coro::executor);
    outcome result;
    start_reading(at, result);
    co_await trickle(at, result, bytes, "\nnext");
    co_await until_ended(result);
    CHECK(result.text == "");
    CHECK(describe(result.header) == says);
    CHECK(at.rest() == "\nnext");
  }
}

ASYNC_TEST("a header that is wrong is refused with what is wrong") {
  for (const auto& [bytes, what] : bad_headers()) {
    CAPTURE(what);
    for (const bool at_once : {true, false}) {
      connection at(co_await asio::this_coro::executor);
      outcome result;
      if (at_once) at.put(bytes);
      start_reading(at, result);
      if (!at_once) co_await trickle(at, result, bytes, "");
      co_await until_ended(result);
      CHECK(result.error == errc::bad_proxy_header);
      const bool first = what.starts_with("begins");  // of which more or less has been seen
      CHECK(result.text.starts_with("proxy header: " + (first ? what.substr(0, 13) : what + ": not a valid header")));
      if (first && at_once) CHECK(result.text.starts_with("proxy header: " + what));
    }
  }
}

ASYNC_TEST("a header that is cut off by the end of the stream is none") {
  for (const auto& whole : {good_headers().front().bytes, version_2(1, 0x11, four + addition(2, "a"))}) {
    for (std::size_t size = 0; size < whole.size(); ++size) {
      connection at(co_await asio::this_coro::executor);
      at.put(whole.substr(0, size));
      at.end();
      const auto text = co_await text_of(read_proxy_header(at.server));
      CHECK(text.starts_with(fmt::format("proxy header: the connection has ended after {} bytes: ", size)));
    }
  }
  connection at(co_await asio::this_coro::executor);
  at.end();
  const auto error = co_await error_of(read_proxy_header(at.server));
  CHECK(error == std::error_code(detail::asio_error(asio::error::eof)));
}

ASYNC_TEST("whatever the bytes are, they are a header or refused") {
  const auto whole = version_2(1, 0x11, four + addition(0x20, std::string(5, '\0') + addition(0x22, "me")));
  for (const auto& from : {whole, good_headers().front().bytes}) {
    for (std::size_t bit = 0; bit < from.size() * 8; ++bit) {
      auto bytes = from;
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
      connection at(co_await asio::this_coro::executor);
      at.put(bytes);
      at.end();
      outcome result;
      start_reading(at, result);
      co_await until_ended(result);
      const auto& header = result.header;
      (void)header.ssl_tlv(proxy_tlv::ssl_common_name);
      CHECK((!result.error || result.error == errc::bad_proxy_header ||
             result.error == std::error_code(detail::asio_error(asio::error::eof))));
    }
  }
}

ASYNC_TEST("additions are found by their type, and those about TLS inside another one") {
  const auto ssl = std::string("\x01\0\0\0\0", 5) + addition(0x21, "TLSv1.3") + addition(0x22, "me");
  connection at(co_await asio::this_coro::executor);
  at.put(version_2(1, 0x11,
                   four + addition(1, "h2") + addition(4, "") + addition(0x20, ssl) + addition(1, "again") +
                       addition(0xea, std::string(300, 'a'))));
  const auto header = co_await read_proxy_header(at.server);
  CHECK(header.tlv(proxy_tlv::alpn) == "h2");
  CHECK(header.tlv(proxy_tlv::noop) == "");
  CHECK(header.tlv(proxy_tlv::ssl) == ssl);
  CHECK(header.tlv(0xea) == std::string(300, 'a'));
  CHECK(header.tlv(proxy_tlv::authority) == std::nullopt);
  CHECK(header.ssl_tlv(proxy_tlv::ssl_version) == "TLSv1.3");
  CHECK(header.ssl_tlv(proxy_tlv::ssl_common_name) == "me");
  CHECK(header.ssl_tlv(proxy_tlv::ssl_cipher) == std::nullopt);

  for (const std::string& cut :
       {std::string(), std::string("\x01\0\0\0", 4), std::string("\x01\0\0\0\0\x22\0\x09x", 9)}) {
    connection other(co_await asio::this_coro::executor);
    other.put(version_2(1, 0x11, four + addition(0x20, cut)));
    const auto short_one = co_await read_proxy_header(other.server);
    CHECK(short_one.ssl_tlv(proxy_tlv::ssl_common_name) == std::nullopt);
  }
}

ASYNC_TEST("the limit of a header's size is the caller's") {
  const auto bytes = version_2(0, 0, std::string(65535, '\0'));
  proxy_header_options options;
  options.max_size = bytes.size();
  connection at(co_await asio::this_coro::executor);
  at.put(bytes + "x");
  const auto header = co_await read_proxy_header(at.server, options);
  CHECK(header.local);
  CHECK(at.rest() == "x");
  options.max_size = 16 + 12;
  at.put(version_2(1, 0x11, four) + version_2(1, 0x11, four + addition(1, "")));
  (void)co_await read_proxy_header(at.server, options);
  const auto text = co_await text_of(read_proxy_header(at.server, options));
  CHECK(text.starts_with("proxy header: 31 bytes, more than 28: "));
}

ASYNC_TEST("a header that does not come in time is not waited for, nor looked for again and again") {
  for (const auto& part : {std::string(), std::string("P"), std::string("PROXY TCP4 1."),
                           std::string("PROXY UNKNOWN\r"), std::string("\r"), version_2(1, 0x11, four).substr(0, 27)}) {
    connection at(co_await asio::this_coro::executor);
    at.put(part);
    const intercept<&system::calls::recvmsg> spy(
        [](auto real, int fd, msghdr* to, int flags) { return real(fd, to, flags); });
    std::error_code error;
    std::string text;
    try {
      (void)co_await read_proxy_header(at.server, within(15ms));
    } catch (const std::system_error& thrown) {
      error = thrown.code();
      text = thrown.what();
    }
    CHECK(error == errc::timed_out);
    CHECK(text == fmt::format("proxy header: {} bytes of it within 15 ms: timed out", part.size()));
    CHECK(spy.calls() <= 4);
  }
  connection at(co_await asio::this_coro::executor);
  const auto error = co_await error_of(read_proxy_header(at.server, within(0ms)));
  CHECK(error == errc::timed_out);
  at.put("PROXY UNKNOWN\r\n");
  const auto there = co_await read_proxy_header(at.server, within(0ms));
  CHECK(there.version == 1);
}

asio::awaitable<void> put_later(std::shared_ptr<connection> at, std::string bytes) {
  co_await yield(3);
  at->put(bytes);
}

PLAIN_TEST("a wait for a header can be cancelled at any point") {
  for (const auto& bytes : {good_headers().front().bytes, version_2(1, 0x11, four)}) {
    const auto cancelled_runs = cancel_at_every_turn([&](cancellation& cancelled) -> asio::awaitable<void> {
      const auto executor = co_await asio::this_coro::executor;
      const auto at = std::make_shared<connection>(executor);
      at->put(bytes.substr(0, 14));
      asio::co_spawn(executor, put_later(at, bytes.substr(14) + "x"), asio::detached);
      const auto header = co_await cancelled(read_proxy_header(at->server));
      if (!header) co_return;
      CHECK(header->source);
      CHECK(at->rest() == "x");
    });
    CHECK(cancelled_runs > 2);
  }
}

ASYNC_TEST("an interrupted, a short and a failing recvmsg are told apart") {
  for (const auto& [bytes, says] : good_headers()) {
    CAPTURE(says);
    connection at(co_await asio::this_coro::executor);
    at.put(bytes + "x");
    {
      const fault<&system::calls::recvmsg> interrupted(EINTR, 1, 2);
      const auto header = co_await read_proxy_header(at.server);
      CHECK(describe(header) == says);
      CHECK(interrupted.failed() == 2);
    }
    CHECK(at.rest() == "x");

    at.put(bytes + "x");
    {
      const intercept<&system::calls::recvmsg> one_byte([](auto real, int fd, msghdr* message, int flags) {
        iovec part{message->msg_iov->iov_base, 1};
        msghdr shorter{};
        shorter.msg_iov = &part;
        shorter.msg_iovlen = 1;
        return real(fd, &shorter, flags);
      });
      const auto header = co_await read_proxy_header(at.server);
      CHECK(describe(header) == says);
    }
    CHECK(at.rest() == "x");

    at.put(bytes + "x");
    {
      const fault<&system::calls::recvmsg> not_yet(EAGAIN, 2);  // readiness that others have used
      const auto header = co_await read_proxy_header(at.server);
      CHECK(describe(header) == says);
    }
    CHECK(at.rest() == "x");
  }
  connection at(co_await asio::this_coro::executor);
  const fault<&system::calls::recvmsg> broken(ECONNRESET);
  const auto text = co_await text_of(read_proxy_header(at.server));
  CHECK(text == "proxy header: receive: Connection reset by peer");
}

ASYNC_TEST("a header is read from a socket of TCP and from one of any protocol") {
  const auto executor = co_await asio::this_coro::executor;
  tcp::acceptor listener(executor, parse_endpoint("127.0.0.1:0"));
  tcp::socket proxy(executor);
  proxy.connect(listener.local_endpoint());
  tcp::socket server = listener.accept();
  for (const auto& [bytes, says] : good_headers()) {
    const std::string sent = bytes + "x";
    proxy.write_some(asio::buffer(sent));
    const auto header = co_await read_proxy_header(server);
    CHECK(describe(header) == says);
    char next = 0;
    server.read_some(asio::buffer(&next, 1));
    CHECK(next == 'x');
  }
  asio::generic::stream_protocol::socket any(std::move(server));
  const std::string sent = "PROXY UNKNOWN\r\n";
  proxy.write_some(asio::buffer(sent));
  const auto header = co_await read_proxy_header(any);
  CHECK(header.version == 1);
}

}  // namespace
}  // namespace cohort::test::proxy_protocol_test
