// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/process/stdio.hpp"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "children.hpp"

namespace cohort::test::stdio_test {
namespace {

std::string file_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

ASYNC_TEST("a descriptor that was given away is closed with the command") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  descriptor reading(ends[0]), writing(ends[1]);
  {
    auto started = co_await spawn(helper("write-fd", "4", "x").fd(4, std::move(writing)));
    co_await started.wait();
  }
  read_pipe pipe(co_await asio::this_coro::executor, std::move(reading));
  const auto text = co_await pipe.read_all();  // ends, so no copy is left
  CHECK(text == "x");
}

ASYNC_TEST("a passed descriptor stays as it is, close-on-exec or not") {
  const descriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto number = std::to_string(null.get());
  const auto passed = co_await output_of(helper("fds").fd(null.get(), stdio::borrow(null.get())));
  CHECK(passed == "0\n1\n2\n" + number + '\n');
  CHECK(::fcntl(null.get(), F_GETFD) == FD_CLOEXEC);
}

ASYNC_TEST("null is empty to read and takes all that is written") {
  auto started = co_await spawn(helper("cat").in(stdio::null).out(stdio::pipe).err(stdio::null));
  const auto text = co_await started.out().read_all();
  CHECK(text.empty());
  const auto status = co_await started.wait();
  CHECK(status.success());
}

ASYNC_TEST("files can be read from, written to and added to") {
  std::string path = "/tmp/cohort-XXXXXX";
  const descriptor file(::mkstemp(path.data()));
  auto first = co_await spawn(helper("echo", "a long first line").out(stdio::to_file(path)));
  co_await first.wait();
  auto second = co_await spawn(helper("echo", "one").out(stdio::to_file(path)));
  co_await second.wait();
  auto third = co_await spawn(helper("echo", "two").out(stdio::append_to_file(path)));
  co_await third.wait();
  CHECK(file_text(path) == "one\ntwo\n");
  const auto read = co_await output_of(helper("cat").in(stdio::from_file(path)));
  CHECK(read == "one\ntwo\n");
  ::unlink(path.c_str());
}

ASYNC_TEST("a descriptor can be the same as another, whichever is set first") {
  const auto what = helper("write-fd", "1", "to 1,", "2", "to 2");
  for (const bool first : {true, false}) {
    auto joined = what;
    if (first) joined.err(stdio::same_as(1)).out(stdio::pipe);
    if (!first) joined.out(stdio::pipe).err(stdio::same_as(1));
    auto started = co_await spawn(joined);
    const auto text = co_await started.out().read_all();
    CHECK(text == "to 1,to 2");
    co_await started.wait();
  }
  // the other way round: to the pipe of a higher number
  auto up = co_await spawn(command(what).out(stdio::same_as(2)).err(stdio::pipe));
  const auto text = co_await up.err().read_all();
  CHECK(text == "to 1,to 2");
  co_await up.wait();
}

ASYNC_TEST("a descriptor can be the same as one that is the same as a third") {
  auto started = co_await spawn(helper("write-fd", "7", "a", "2", "b", "0", "c")
                                    .fd(7, stdio::same_as(2))
                                    .err(stdio::same_as(0))
                                    .in(stdio::same_as(1))
                                    .out(stdio::pipe));
  const auto text = co_await started.out().read_all();
  CHECK(text == "abc");
  co_await started.wait();
}

ASYNC_TEST("a descriptor can be the same as one that the parent had") {
  auto started = co_await spawn(helper("join-output").out(stdio::pipe).err(stdio::pipe));
  const auto out = co_await started.out().read_all();
  const auto err = co_await started.err().read_all();
  CHECK(out == "to 1,to 2");
  CHECK(err.empty());
  co_await started.wait();
}

ASYNC_TEST("descriptors that are the same share one place in their file") {
  const directory place;
  const auto path = place / "both";
  auto started = co_await spawn(
      helper("write-fd", "1", "1,", "2", "2,", "1", "3").out(stdio::to_file(path)).err(stdio::same_as(1)));
  co_await started.wait();
  CHECK(file_text(path) == "1,2,3");
}

ASYNC_TEST("a descriptor that is the same as none is refused, before anything is opened") {
  const directory place;
  const auto path = place / "kept";
  std::ofstream(path) << "kept";
  const auto what = helper("echo").in(stdio::to_file(path));
  const auto missing = co_await text_of(spawn(command(what).out(stdio::same_as(5))));
  CHECK(missing == "spawn: stdout same as fd 5: invalid option");
  const auto negative = co_await text_of(spawn(command(what).out(stdio::same_as(-1))));
  CHECK(negative == "spawn: stdout same as fd -1: invalid option");
  const auto itself = co_await text_of(spawn(command(what).fd(4, stdio::same_as(4))));
  CHECK(itself == "spawn: fd 4 same as fd 4: invalid option");
  const auto ring = co_await text_of(spawn(command(what).out(stdio::same_as(2)).err(stdio::same_as(1))));
  CHECK(ring == "spawn: stdout same as stderr: invalid option");
  const auto into_ring =
      co_await text_of(spawn(command(what).fd(3, stdio::same_as(4)).fd(4, stdio::same_as(5)).fd(5, stdio::same_as(4))));
  CHECK(into_ring == "spawn: fd 3 same as fd 4: invalid option");
  const auto code = co_await error_of(spawn(command(what).out(stdio::same_as(5))));
  CHECK(code == errc::invalid_option);
  CHECK(file_text(path) == "kept");
}

ASYNC_TEST("the child's ends of its pipes are blocking") {
  auto started = co_await spawn(helper("blocking", "0", "1", "2").in(stdio::pipe).out(stdio::pipe).err(stdio::pipe));
  const auto status = co_await started.wait();
  CHECK(status.success());
  CHECK((::fcntl(started.out().native_handle(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK(::fcntl(started.out().native_handle(), F_GETFD) == FD_CLOEXEC);
  CHECK(::fcntl(started.native_handle(), F_GETFD) == -1);  // -1: it has been reaped
}

}  // namespace
}  // namespace cohort::test::stdio_test
