// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/error_log.hpp"

#include <cstddef>
#include <string>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../include/cohort/core/descriptor.hpp"
#include "../support/harness.hpp"

namespace cohort::test::error_log_test {
namespace {

/// Puts a descriptor in the place of the error output for as long as it lives.
class redirected {
 public:
  explicit redirected(int to) : before_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) { ::dup2(to, STDERR_FILENO); }
  ~redirected() { ::dup2(before_.get(), STDERR_FILENO); }

 private:
  descriptor before_;
};

struct pipe_of_a_page {
  pipe_of_a_page() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    read.reset(ends[0]);
    write.reset(ends[1]);
    ::fcntl(write.get(), F_SETPIPE_SZ, 4096);
    ::fcntl(read.get(), F_SETFL, O_NONBLOCK);
  }

  std::string take() const {
    std::string all(65'536, '\0');
    const auto size = ::read(read.get(), all.data(), all.size());
    all.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return all;
  }

  descriptor read, write;
};

PLAIN_TEST("a line is written with its end, to whatever the error output is at that time") {
  const pipe_of_a_page first, second;
  {
    const redirected there(first.write.get());
    error_log::write("one");
  }
  {
    const redirected there(second.write.get());
    error_log::write("two");
    error_log::write("");
  }
  CHECK(first.take() == "one\n");
  CHECK(second.take() == "two\n\n");
}

PLAIN_TEST("a pipe that nobody reads costs lines and no time, and the next line that is taken says how many") {
  const pipe_of_a_page full;
  const auto before = error_log::lost();
  std::size_t written = 0;
  {
    const redirected there(full.write.get());
    const std::string line(1'000, 'x');
    for (int i = 0; i < 20; ++i) error_log::write(line);
    written = full.take().size() / 1'001;
    CHECK(written > 0);
    CHECK(error_log::lost() - before == 20 - written);
    error_log::write("again");
    CHECK(full.take() == "(" + std::to_string(20 - written) + " lines of this log are lost)\nagain\n");
    error_log::write("and again");
    CHECK(full.take() == "and again\n");
  }
  // Others write to it too, and would lose what they say.
  CHECK((::fcntl(full.write.get(), F_GETFL) & O_NONBLOCK) == 0);
}

PLAIN_TEST("a socket that nobody reads, a full disk and a pipe without a reader cost lines and nothing else") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const descriptor mine(ends[0]), theirs(ends[1]);
  const auto before = error_log::lost();
  {
    const redirected there(mine.get());
    for (int i = 0; i < 2'000; ++i) error_log::write(std::string(2'000, 'x'));
  }
  const auto at_socket = error_log::lost();
  CHECK(at_socket > before);
  const descriptor disk(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  REQUIRE(disk);
  {
    const redirected there(disk.get());
    error_log::write("x");
  }
  CHECK(error_log::lost() == at_socket + 1);
  pipe_of_a_page broken;
  broken.read.reset();
  const auto handled = ::signal(SIGPIPE, SIG_IGN);
  {
    const redirected there(broken.write.get());
    error_log::write("x");
  }
  ::signal(SIGPIPE, handled);
  CHECK(error_log::lost() == at_socket + 2);
  const pipe_of_a_page good;
  {
    const redirected there(good.write.get());
    error_log::write("x");
  }
  CHECK(good.take().find("lines of this log are lost)\nx\n") != std::string::npos);
}

PLAIN_TEST("a line that is too long is cut off") {
  const pipe_of_a_page out;
  {
    const redirected there(out.write.get());
    error_log::write(std::string(100'000, 'x'));
  }
  CHECK(out.take() == std::string(2'048, 'x') + "\n");
}

}  // namespace
}  // namespace cohort::test::error_log_test
