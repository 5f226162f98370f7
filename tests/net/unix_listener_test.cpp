// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/net/unix_listener.hpp"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cluster/service/manager.hpp"
#include "../process/directory.hpp"
#include "../support/fault.hpp"

namespace cohort::test::unix_listener_test {
namespace {

using endpoint = asio::local::stream_protocol::endpoint;

template <class Function>
std::string failure_of(Function function) {
  try {
    function();
  } catch (const std::system_error& error) {
    return error.what();
  }
  return {};
}

endpoint at(const std::string& path) { return parse_unix_endpoint("unix:" + path); }

bool exists(const std::string& path) {
  struct stat found = {};
  return ::lstat(path.c_str(), &found) == 0;
}

mode_t mode_of(const std::string& path) {
  struct stat found = {};
  REQUIRE(::lstat(path.c_str(), &found) == 0);
  CHECK(S_ISSOCK(found.st_mode));
  return found.st_mode & 07777;
}

/// A bound socket that may listen.
descriptor bound(const std::string& path, int type = SOCK_STREAM) {
  descriptor result(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  const auto where = at(path);
  REQUIRE(::bind(result.get(), where.data(), static_cast<socklen_t>(where.size())) == 0);
  return result;
}

/// 0, or why nobody is reached.
int connect_to(const endpoint& where) {
  const descriptor client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(client.get(), where.data(), static_cast<socklen_t>(where.size())) == 0 ? 0 : errno;
}

struct umask_of {
  explicit umask_of(mode_t mask) : before(::umask(mask)) {}
  ~umask_of() { ::umask(before); }
  mode_t before;
};

PLAIN_TEST("a local address is a path or an abstract name") {
  for (const auto* text : {"unix:/run/app.sock", "unix:@app", "unix:@/x", "unix:/a:b c"}) {
    CHECK(to_string(parse_unix_endpoint(text)) == text);
  }
  CHECK(parse_unix_endpoint("unix:@app").path() == std::string("\0app", 4));
  const std::string longest = "unix:/" + std::string(106, 'x');
  CHECK(to_string(parse_unix_endpoint(longest)) == longest);
  CHECK(to_string(endpoint()) == "unix:");
}

PLAIN_TEST("everything else is refused with its text") {
  for (const auto& text : {std::string("unix:"), std::string("unix:app.sock"), std::string("unix:@"),
                           std::string("unix:/"), std::string("unix:./x"), std::string("/run/app.sock"),
                           std::string("unix"), std::string(), "unix:/" + std::string(107, 'x')}) {
    CHECK(failure_of([&] { parse_unix_endpoint(text); }) ==
          "listen " + text + ": want unix:/PATH or unix:@NAME: invalid option");
  }
  CHECK_FALSE(failure_of([] { parse_unix_endpoint(std::string("unix:/a\0b", 9)); }).empty());
}

PLAIN_TEST("a local listener accepts, and its file goes with it") {
  const directory scratch;
  const auto path = scratch / "app.sock";
  {
    const umask_of mask(0027);
    const auto listener = open_unix_listener(at(path), 8);
    CHECK(::fcntl(listener.socket.get(), F_GETFD) == FD_CLOEXEC);
    CHECK((::fcntl(listener.socket.get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK(listener.file.path() == path);
    CHECK(mode_of(path) == 0750);
    CHECK(connect_to(at(path)) == 0);
  }
  CHECK_FALSE(exists(path));
}

PLAIN_TEST("a local listener has the permissions that it was given, whatever the umask") {
  const directory scratch;
  const auto path = scratch / "app.sock";
  for (const mode_t mask : {mode_t(0), mode_t(0077), mode_t(0777)}) {
    const umask_of set(mask);
    for (const mode_t mode : {mode_t(0660), mode_t(0666), mode_t(0600), mode_t(0)}) {
      mode_t born = 07777;  // of the file, at the first moment that it is there
      const intercept<&system::calls::bind> spy([&](auto real, int fd, const sockaddr* where, socklen_t size) {
        const int result = real(fd, where, size);
        born = mode_of(path);
        return result;
      });
      const auto listener = open_unix_listener(at(path), 8, mode);
      CHECK((born & ~mode) == 0);
      CHECK(mode_of(path) == mode);
    }
  }
}

PLAIN_TEST("a local listener is the user's and the group's that it was given before anybody gets through" *
           doctest::skip(::geteuid() != 0)) {
  const directory scratch;
  const auto path = scratch / "app.sock";
  socket_rights rights;
  rights.user = "65534";
  rights.group = "65533";
  bool looked = false;
  const intercept<&system::calls::listen> spy([&](auto real, int fd, int backlog) {
    struct stat found = {};
    REQUIRE(::lstat(path.c_str(), &found) == 0);
    CHECK(found.st_uid == 65534);
    CHECK(found.st_gid == 65533);
    CHECK((found.st_mode & 07777) == 0660);
    CHECK(connect_to(at(path)) == ECONNREFUSED);
    looked = true;
    return real(fd, backlog);
  });
  const auto listener = open_unix_listener(at(path), 8, rights);
  CHECK(looked);
  CHECK(connect_to(at(path)) == 0);
}

PLAIN_TEST("a user or a group that nobody knows is an error that names it, and leaves no file") {
  const directory scratch;
  const auto path = scratch / "app.sock";
  socket_rights rights;
  rights.user = "no-such-user";
  CHECK(failure_of([&] { open_unix_listener(at(path), 8, rights); }) ==
        "listen unix:" + path + ": user \"no-such-user\": invalid option");
  rights.user = "0";
  rights.group = "no-such-group";
  CHECK(failure_of([&] { open_unix_listener(at(path), 8, rights); }) ==
        "listen unix:" + path + ": group \"no-such-group\": invalid option");
  CHECK_FALSE(exists(path));
}

PLAIN_TEST("the permissions of what a link leads to are not changed") {
  const directory here;
  const std::string file = here / "secret", link = here / "link", socket = here / "socket";
  std::ofstream(file) << "x";
  REQUIRE(::chmod(file.c_str(), 0600) == 0);
  std::filesystem::create_symlink(file, link);
  struct stat after{};
  CHECK(detail::set_rights(link, {}, 0666) == -1);
  CHECK(detail::set_rights(file, {}, 0666) == -1);
  CHECK(errno == ENOTSOCK);
  REQUIRE(::stat(file.c_str(), &after) == 0);
  CHECK((after.st_mode & 0777) == 0600);
  const auto listener = open_unix_listener(asio::local::stream_protocol::endpoint(socket), 1);
  CHECK(detail::set_rights(socket, {}, 0612) == 0);
  REQUIRE(::stat(socket.c_str(), &after) == 0);
  CHECK((after.st_mode & 0777) == 0612);
}

PLAIN_TEST("an abstract name needs no file, and is free when the listener is gone") {
  const auto name = "unix:@cohort-test-" + std::to_string(::getpid());
  const auto where = parse_unix_endpoint(name);
  for (int i = 0; i < 2; ++i) {
    const auto listener = open_unix_listener(where, 8, 0600);
    CHECK(listener.file.path().empty());
    CHECK(connect_to(where) == 0);
    CHECK(failure_of([&] { open_unix_listener(where, 8); }) == "listen " + name + ": Address already in use");
  }
  CHECK(connect_to(where) == ECONNREFUSED);
}

PLAIN_TEST("a file that a killed server has left behind is replaced") {
  const directory scratch;
  const auto path = scratch / "app.sock";
  {
    const auto left_behind = bound(path);
  }
  CHECK(exists(path));
  const auto listener = open_unix_listener(at(path), 8, 0600);
  CHECK(connect_to(at(path)) == 0);
  CHECK(mode_of(path) == 0600);
}

PLAIN_TEST("a server that lives is left alone, even if it has no time") {
  const directory scratch;
  const auto path = scratch / "app.sock";
  const auto expected = "listen unix:" + path + ": Address already in use";
  const auto first = open_unix_listener(at(path), 0);
  CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == expected);
  // The queue of a backlog of 0 holds one, which the look has been.
  CHECK(connect_to(at(path)) == EAGAIN);
  CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == expected);
  CHECK(exists(path));
}

PLAIN_TEST("a server that has bound and is about to listen is left alone") {
  const directory scratch;
  const auto path = scratch / "app.sock";
  const auto first = bound(path);
  {
    // its own socket, the first look, and the second one
    const intercept<&system::calls::socket> between([&](auto real, int domain, int type, int protocol) {
      if (between.calls() == 3) REQUIRE(::listen(first.get(), 8) == 0);
      return real(domain, type, protocol);
    });
    CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == "listen unix:" + path + ": Address already in use");
    CHECK(between.calls() == 3);
  }
  CHECK(connect_to(at(path)) == 0);
  ::unlink(path.c_str());
}

PLAIN_TEST("what is put in the place of a stale file meanwhile is left alone") {
  const directory scratch;
  const auto path = scratch / "app.sock", aside = scratch / "old";
  {
    const auto left_behind = bound(path);
  }
  descriptor other;
  {
    const intercept<&system::calls::socket> between([&](auto real, int domain, int type, int protocol) {
      const int result = real(domain, type, protocol);
      if (between.calls() == 3) {
        // Keeps the inode, so that the new file cannot get its number.
        REQUIRE(::rename(path.c_str(), aside.c_str()) == 0);
        other = bound(path);  // and is about to listen
      }
      return result;
    });
    CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == "listen unix:" + path + ": Address already in use");
  }
  CHECK(exists(path));
  ::unlink(path.c_str());
  ::unlink(aside.c_str());
}

PLAIN_TEST("a file that is no stream socket is never removed") {
  const directory scratch;
  const auto path = scratch / "app.sock", target = scratch / "target";
  const auto expected = "listen unix:" + path + ": Address already in use";
  std::ofstream(path) << "precious";
  CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == expected);
  std::string text;
  std::ifstream(path) >> text;
  CHECK(text == "precious");
  ::unlink(path.c_str());

  const auto datagram = bound(path, SOCK_DGRAM);
  CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == expected);
  CHECK(exists(path));
  ::unlink(path.c_str());

  {
    const auto left_behind = bound(target);
  }
  REQUIRE(::symlink(target.c_str(), path.c_str()) == 0);
  CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == expected);
  CHECK(exists(path));
  CHECK(exists(target));
  ::unlink(path.c_str());
  ::unlink(target.c_str());
}

PLAIN_TEST("each step that fails names the address, and leaves no file") {
  const directory scratch;
  const auto path = scratch / "app.sock", name = "listen unix:" + path;
  {
    const fault<&system::calls::socket> full(EMFILE);
    CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == name + ": Too many open files");
  }
  {
    const fault<&system::calls::bind> refused(EACCES);
    CHECK(failure_of([&] { open_unix_listener(at(path), 8, 0600); }) == name + ": Permission denied");
  }
  {
    const fault<&system::calls::listen> refused(EINVAL);
    CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == name + ": Invalid argument");
  }
  CHECK_FALSE(exists(path));
  CHECK(failure_of([&] { open_unix_listener(at(scratch / "none/app.sock"), 8); }) ==
        "listen unix:" + (scratch / "none/app.sock") + ": No such file or directory");
  {
    // no room for a look: whoever is there stays
    const auto left_behind = bound(path);
    const fault<&system::calls::socket> full(EMFILE, 2);
    CHECK(failure_of([&] { open_unix_listener(at(path), 8); }) == name + ": Address already in use");
  }
  CHECK(exists(path));
  ::unlink(path.c_str());
}

PLAIN_TEST("a socket file that is another one by now is not removed") {
  const directory scratch;
  const auto path = scratch / "app.sock", aside = scratch / "old";
  {
    const auto first = open_unix_listener(at(path), 8);
    REQUIRE(::rename(path.c_str(), aside.c_str()) == 0);
    const auto successor = bound(path);
  }
  CHECK(exists(path));
  ::unlink(path.c_str());
  ::unlink(aside.c_str());
  {
    const auto nothing = socket_file(path);
  }
}

PLAIN_TEST("a socket file may be handed over, moved, and removed early") {
  const directory scratch;
  const auto path = scratch / "app.sock";
  {
    auto listener = open_unix_listener(at(path), 8);
    listener.file.release();
    CHECK(listener.file.path().empty());
  }
  CHECK(exists(path));

  auto listener = open_unix_listener(at(path), 8);
  socket_file other(std::move(listener.file));
  CHECK(listener.file.path().empty());
  listener.file.remove();
  CHECK(exists(path));
  listener.file = std::move(other);
  CHECK(exists(path));
  listener.file = socket_file();
  CHECK_FALSE(exists(path));
}

PLAIN_TEST("a child that was forked does not remove the file of its parent") {
  const directory scratch;
  const auto path = scratch / "app.sock";
  auto listener = open_unix_listener(at(path), 8);
  const pid_t child = ::fork();
  if (child == 0) {
    listener.file.remove();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(exists(path));
}

}  // namespace
}  // namespace cohort::test::unix_listener_test
