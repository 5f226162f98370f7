// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/cluster/node/listen_query.hpp"

#include <cerrno>
#include <string>
#include <system_error>

#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../../include/cohort/ipc/handle.hpp"
#include "../support/harness.hpp"

namespace cohort::test::listen_query_test {

using node_cluster::errno_of;
using node_cluster::listen_query;
using node_cluster::open_server;
using node_cluster::parse_listen_query;
using kind = listen_query::kind;

listen_query query_of(const char* text) { return parse_listen_query(json::parse(text)); }

PLAIN_TEST("a query has the key that a primary of Node's gives it") {
  const auto any = query_of(R"({"address":null,"port":8000,"addressType":4,"index":0,"backlog":0})");
  CHECK(any.key == "null:8000:4:undefined:0");
  CHECK(any.what == kind::tcp);
  CHECK(any.address.empty());
  CHECK(any.backlog == 511);
  const auto udp = query_of(R"({"address":"::1","port":0,"addressType":"udp6","fd":-1,"flags":1,"index":2})");
  CHECK(udp.key == "::1:0:udp6:-1:2");
  CHECK(udp.what == kind::udp);
  CHECK(udp.six);
  const auto path = query_of(R"({"address":"/tmp/x","port":-1,"addressType":-1,"index":0,"backlog":7})");
  CHECK(path.key == "/tmp/x:-1:-1:undefined:0");
  CHECK(path.what == kind::local);
  CHECK(path.backlog == 7);
  CHECK(query_of(R"({"address":null,"port":null,"addressType":null,"fd":9,"index":0})").what == kind::descriptor);
}

PLAIN_TEST("what no worker asks for is malformed, and nothing is opened for it") {
  CHECK_THROWS_AS(query_of(R"({"address":"x","port":1e300,"addressType":4})"), std::system_error);
  CHECK_THROWS_AS(query_of(R"({"address":"x","port":1,"addressType":"tcp"})"), std::system_error);
  CHECK_THROWS_AS(parse_listen_query({{"address", std::string(2000, 'x')}}), std::system_error);
}

PLAIN_TEST("a server that cannot be opened has the errno for the worker") {
  const auto failure = [](const listen_query& query) {
    try {
      open_server(query, true);
    } catch (const std::system_error& error) {
      return errno_of(error);
    }
    return 0;
  };
  auto query = query_of(R"({"address":"127.0.0.1","port":0,"addressType":4,"index":0})");
  const auto first = open_server(query, true);
  CHECK(kind_of(first.socket.get()) == handle_kind::tcp_acceptor);
  query.port = first.sockname["port"].get<int>();
  CHECK(failure(query) == -EADDRINUSE);
  query.port = 70000;
  CHECK(failure(query) == -EINVAL);
  query.address = "192.0.2.1";  // TEST-NET-1 (RFC 5737)
  query.port = 0;
  CHECK(failure(query) == -EADDRNOTAVAIL);
  query.what = kind::descriptor;
  query.fd = first.socket.get();  // close-on-exec: this process's own
  CHECK(failure(query) == -EBADF);
}

PLAIN_TEST("a server that others are to listen on is bound alone, and a path has the permissions that are wanted") {
  const auto query = query_of(R"({"address":"127.0.0.1","port":0,"addressType":4,"index":0})");
  CHECK(kind_of(open_server(query, false).socket.get()) != handle_kind::tcp_acceptor);
  auto path = query_of(R"({"port":-1,"addressType":-1,"index":0,"readableAll":true,"writableAll":true})");
  path.address = fmt::format("/tmp/cohort-listen-query-{}", ::getpid());
  {
    const auto server = open_server(path, true);
    struct stat found {};
    CHECK(::stat(path.address.c_str(), &found) == 0);
    CHECK((found.st_mode & 0666) == 0666);
    CHECK(server.address == "unix:" + path.address);
  }
  CHECK(::access(path.address.c_str(), F_OK) != 0);
}

}  // namespace cohort::test::listen_query_test
