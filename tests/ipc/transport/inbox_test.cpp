// SPDX-License-Identifier: BSL-1.0
// What an inbox makes of bytes and descriptors that come from a socket; of an outbox and an inbox together see
// link_test.cpp, and of bytes that no correct peer sends, hostile_test.cpp.
#include "../../../include/cohort/ipc/transport/inbox.hpp"

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../codec/boxes.hpp"

namespace cohort::test::inbox_test {
namespace {

std::string little(std::uint64_t value, std::size_t bytes) {
  std::string result(bytes, '\0');
  wire::store(result.data(), value, bytes);
  return result;
}

std::string frame(wire::kind kind, std::string_view payload = {}, std::uint8_t handles = 0) {
  std::string result(wire::header_size, '\0');
  wire::put_header(result.data(), kind, static_cast<std::uint32_t>(payload.size()), handles);
  return result.append(payload);
}

/// A message of type 1.
std::string message(const std::string& text) { return frame(wire::kind::message, little(1, 2) + text); }

std::string envelope(wire::envelope what, std::uint64_t id, std::string_view inside) {
  return frame(wire::kind::message, little(static_cast<std::uint64_t>(what), 2) + little(id, 8).append(inside));
}

std::string lease(std::uint64_t id) {
  return frame(wire::kind::lease, little(id, 8) + little(static_cast<std::uint64_t>(handle_kind::descriptor), 1) + "ty",
               1);
}

/// An inbox at one end of a socket pair, and the other end, which has said hello.
struct box {
  explicit box(std::uint32_t max_message = 1024 * 1024) : in(max_message) { come(frame(wire::kind::hello, "hello")); }

  std::pair<descriptor, descriptor> ends = make_channel_pair();
  detail::byte_transport from{ends.second.get()};
  inbox in;
  heard sink;

  void write(const std::string& bytes, const std::vector<int>& handles = {}) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    std::vector<char> ancillary(CMSG_SPACE(handles.size() * sizeof(int)));
    if (!handles.empty()) {
      header.msg_control = ancillary.data();
      header.msg_controllen = ancillary.size();
      cmsghdr* rights = CMSG_FIRSTHDR(&header);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(handles.size() * sizeof(int));
      std::memcpy(CMSG_DATA(rights), handles.data(), handles.size() * sizeof(int));
    }
    REQUIRE(::sendmsg(ends.first.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }

  inbox::outcome read() {
    auto outcome = in.read(from, sink);
    while (outcome == inbox::outcome::data || outcome == inbox::outcome::drained) {
      outcome = in.read(from, sink);
    }
    return outcome;
  }

  /// Writes and reads.
  void come(const std::string& bytes, const std::vector<int>& handles = {}) {
    write(bytes, handles);
    CHECK(read() == inbox::outcome::empty);
  }

  std::error_code code_of(const std::string& bytes, const std::vector<int>& handles = {}) {
    write(bytes, handles);
    try {
      read();
    } catch (const std::system_error& error) {
      return error.code();
    }
    return std::error_code();
  }

  std::string first() {
    const auto& stored = in.first_message();
    return std::string(stored.data + 2, stored.size - 2);
  }
};

/// A pipe whose reading end tells whether the other one is open anywhere.
struct watched {
  watched() {
    int both[2];
    REQUIRE(::pipe2(both, O_CLOEXEC) == 0);
    reading.reset(both[0]);
    writing.reset(both[1]);
  }

  bool is_closed() const {
    pollfd look{reading.get(), 0, 0};
    return ::poll(&look, 1, 0) == 1;
  }

  descriptor reading, writing;
};

PLAIN_TEST("the first frame is a hello, and no other is") {
  inbox fresh(1000);
  heard nobody;
  auto ends = make_channel_pair();
  detail::byte_transport from(ends.second.get());
  const auto early = message("early");
  REQUIRE(::send(ends.first.get(), early.data(), early.size(), 0) == static_cast<ssize_t>(early.size()));
  CHECK_THROWS_AS(fresh.read(from, nobody), std::system_error);
  box b;
  CHECK(b.sink.words == std::vector<std::string>{"hello hello"});
  CHECK(b.code_of(frame(wire::kind::hello, "again")) == errc::malformed);
}

PLAIN_TEST("messages lie here in their order, with their bytes counted, until they are taken") {
  box b;
  b.come(message("one") + message("three"));
  REQUIRE(b.in.has_message());
  CHECK(b.first() == "one");
  CHECK(b.in.stored_bytes() == 5 + 7);
  b.in.pop_message();
  CHECK(b.first() == "three");
  CHECK(b.in.stored_bytes() == 7);
  b.come(message("later"));
  CHECK(b.first() == "three");
  b.in.drop_messages();
  CHECK_FALSE(b.in.has_message());
  CHECK(b.in.stored_bytes() == 0);
}

PLAIN_TEST("a frame that has come in part is torn, and a message when the rest has come") {
  box b;
  const auto whole = message("text");
  for (const std::size_t cut : {std::size_t{3}, wire::header_size, whole.size() - 1}) {
    CHECK_FALSE(b.in.is_torn());
    b.come(whole.substr(0, cut));
    CHECK(b.in.is_torn());
    CHECK_FALSE(b.in.has_message());
    b.come(whole.substr(cut));
    CHECK_FALSE(b.in.is_torn());
    REQUIRE(b.in.has_message());
    CHECK(b.first() == "text");
    b.in.pop_message();
  }
}

PLAIN_TEST("messages stay in order, however the reads cut them and whatever comes between") {
  const auto words = message("one") + message("") + frame(wire::kind::adopted, little(5, 8)) + message("three") +
                     envelope(wire::envelope::request, 1, "ty") + message("four") + message("five") +
                     frame(wire::kind::withdrawn, "xx") + frame(wire::kind::piece, little(1, 2) + "s") +
                     frame(wire::kind::message, "ix") + message("seven");
  for (std::size_t cut = 1; cut < words.size(); ++cut) {
    box b;
    b.come(words.substr(0, cut));
    std::string heard;
    const auto take = [&] {
      for (; b.in.has_message(); b.in.pop_message()) heard += b.first() + " ";
    };
    if (cut % 2 == 0) take();
    b.come(words.substr(cut));
    take();
    CHECK(heard == "one  three four five six seven ");
    CHECK(b.in.stored_bytes() == 12);
    b.in.drop_messages();
    CHECK(b.in.stored_memory() == 0);
  }
}

PLAIN_TEST("pieces become one message, and other frames pass between them") {
  box b;
  b.come(frame(wire::kind::piece, little(1, 2) + "a") + frame(wire::kind::adopted, little(5, 8)));
  CHECK(b.sink.words.back() == "adopted 5");
  CHECK(b.in.is_torn());
  b.come(frame(wire::kind::piece, "b") + frame(wire::kind::message, "c"));
  CHECK_FALSE(b.in.is_torn());
  REQUIRE(b.in.has_message());
  CHECK(b.first() == "abc");
}

PLAIN_TEST("a message above the limit is too large, in one frame or in pieces") {
  box whole(10), pieces(10);
  CHECK_FALSE(whole.code_of(message("12345678")));
  CHECK(whole.code_of(message("123456789")) == errc::message_too_large);
  CHECK_FALSE(pieces.code_of(frame(wire::kind::piece, "1234567890")));
  CHECK(pieces.code_of(frame(wire::kind::message, "1")) == errc::message_too_large);
}

PLAIN_TEST("requests stay here, answers and cancellations go on") {
  box b;
  b.come(envelope(wire::envelope::request, 3, "ty") + envelope(wire::envelope::request, 4, "ty") +
         envelope(wire::envelope::reply, 7, "ty") + envelope(wire::envelope::cancel, 4, ""));
  CHECK(b.sink.words == std::vector<std::string>{"hello hello", "answer 7", "cancel 4"});
  CHECK_FALSE(b.in.has_message());
  CHECK(b.in.requests.size() == 2);
  CHECK(b.in.drop_request(4));
  CHECK_FALSE(b.in.drop_request(4));
  REQUIRE(b.in.requests.size() == 1);
  CHECK(wire::load(b.in.requests.front().data + 2, 8) == 3);
  b.in.drop_messages();
  CHECK(b.in.requests.empty());
}

PLAIN_TEST("what is numbered comes in the order of its numbers, and is taken back once, after it has come") {
  const auto request = [](std::uint64_t id) { return envelope(wire::envelope::request, id, "ty"); };
  const auto cancel = [](std::uint64_t id) { return envelope(wire::envelope::cancel, id, ""); };
  const auto revoked = [](std::uint64_t id) { return frame(wire::kind::revoked, little(id, 8)); };
  for (const auto& bytes : {request(0), request(3) + request(3), request(3) + request(2), cancel(0), cancel(1),
                            request(3) + cancel(4), request(3) + cancel(3) + cancel(3), revoked(0), revoked(1)}) {
    box b;
    CHECK(b.code_of(bytes) == errc::malformed);
  }
  box good;
  CHECK_FALSE(good.code_of(request(3) + request(5) + cancel(3) + cancel(5) + request(6) + cancel(6)));
  const descriptor object(::eventfd(1, EFD_CLOEXEC));
  for (const auto& [first, second] : {std::pair{2, 2}, {2, 1}, {0, 1}}) {
    box b;
    const auto leases = lease(static_cast<std::uint64_t>(first)) + lease(static_cast<std::uint64_t>(second));
    CHECK(b.code_of(frame(wire::kind::handles, "", 2) + leases, {object.get(), object.get()}) == errc::malformed);
  }
}

PLAIN_TEST("what waits is counted with what it takes to keep it") {
  box b;
  std::string small;
  for (int i = 0; i < 1000; ++i) small += frame(wire::kind::message, little(1, 2));
  b.come(small);
  CHECK(b.in.stored_bytes() == 2000);
  CHECK(b.in.stored_memory() > 100'000);
  CHECK(b.in.buffer_memory() >= small.size());
  for (int i = 0; i < 1000; ++i) b.in.pop_message();
  CHECK(b.in.stored_memory() == 0);
}

PLAIN_TEST("a small message among much that is skipped counts the whole buffer that it keeps") {
  box b;
  const std::size_t before = b.in.buffer_memory();
  const auto skipped = frame(wire::kind::withdrawn, std::string(100'000, 'x'));
  for (int i = 0; i < 10; ++i) {
    b.come(message("a"));
    for (int times = 0; times < 3; ++times) b.come(skipped);
  }
  CHECK(b.in.stored_bytes() == 30);
  CHECK(b.in.buffer_memory() >= before + 2'500'000);
}

PLAIN_TEST("handles that wait are counted, with a message or in one, and the message of a lease is") {
  box b;
  const descriptor object(::eventfd(1, EFD_CLOEXEC));
  const std::vector<int> three(3, object.get());
  b.come(frame(wire::kind::handles, "", 3) + frame(wire::kind::parcel, little(1, 8) + "ty", 2) + lease(2), three);
  CHECK(b.in.stored_handles() == 2);
  REQUIRE(b.sink.leases.size() == 1);
  b.in.keep_lease(std::move(b.sink.leases[0]));
  CHECK(b.in.stored_handles() == 3);
  CHECK(b.in.stored_bytes() == 4);
  b.in.drop_lease(2);
  CHECK(b.in.stored_handles() == 2);
  b.in.pop_message();
  CHECK(b.in.stored_handles() == 0);
  CHECK(b.in.stored_bytes() == 0);
}

PLAIN_TEST("all descriptors are closed together, and messages without any stay") {
  box b;
  watched announced, in_parcel, in_lease;
  b.come(message("one") + frame(wire::kind::handles, "", 3) + frame(wire::kind::parcel, little(1, 8) + "ty", 1) +
             lease(2) + message("two"),
         {in_parcel.writing.get(), in_lease.writing.get(), announced.writing.get()});
  b.in.keep_lease(std::move(b.sink.leases.at(0)));
  for (watched* each : {&announced, &in_parcel, &in_lease}) each->writing.reset();
  b.in.drop_handles();
  for (watched* each : {&announced, &in_parcel, &in_lease}) CHECK(each->is_closed());
  CHECK(b.first() == "one");
  b.in.pop_message();
  CHECK(b.first() == "two");
  b.in.pop_message();
  CHECK_FALSE(b.in.has_message());
  CHECK(b.in.stored_memory() == 0);
}

PLAIN_TEST("descriptors come to the leases behind their announcement, in order") {
  box b;
  const descriptor first(::eventfd(1, EFD_CLOEXEC)), second(::eventfd(2, EFD_CLOEXEC));
  b.come(frame(wire::kind::handles, "", 2) + lease(8) + message("between") + lease(9), {first.get(), second.get()});
  REQUIRE(b.sink.leases.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(b.sink.leases[i].id == 8 + i);
    eventfd_t value = 0;
    ::eventfd_read(b.sink.leases[i].fd.get(), &value);
    CHECK(value == i + 1);
    CHECK((::fcntl(b.sink.leases[i].fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
  }
  CHECK(b.first() == "between");
}

PLAIN_TEST("a lease without a descriptor, and descriptors without an announcement, are malformed") {
  box without, unannounced;
  CHECK(without.code_of(lease(1)) == errc::malformed);
  const descriptor object(::eventfd(1, EFD_CLOEXEC));
  CHECK(unannounced.code_of(message("text"), {object.get()}) == errc::malformed);
}

PLAIN_TEST("a message that is dropped takes the handles in it along") {
  box b;
  watched dropped, kept;
  const auto parcel = [](std::uint64_t id) { return frame(wire::kind::parcel, little(id, 8) + "ty", 1); };
  b.come(frame(wire::kind::handles, "", 2) + parcel(1) + parcel(2), {dropped.writing.get(), kept.writing.get()});
  dropped.writing.reset();
  kept.writing.reset();
  CHECK_FALSE(dropped.is_closed());
  b.in.drop_parcel(1);
  CHECK(dropped.is_closed());
  CHECK_FALSE(kept.is_closed());
  REQUIRE(b.in.has_message());
  REQUIRE(b.in.first_message().parcel);
  CHECK(b.in.first_message().parcel->id == 2);
  b.in.drop_parcel(1);  // which is gone
  CHECK(b.in.has_message());
}

PLAIN_TEST("descriptors that nobody has taken are closed with the inbox") {
  watched announced, in_parcel;
  {
    box b;
    b.come(frame(wire::kind::handles, "", 2) + frame(wire::kind::parcel, little(1, 8) + "ty", 1),
           {in_parcel.writing.get(), announced.writing.get()});
    announced.writing.reset();
    in_parcel.writing.reset();
    CHECK_FALSE(announced.is_closed());
  }
  CHECK(announced.is_closed());
  CHECK(in_parcel.is_closed());
}

PLAIN_TEST("a goodbye is followed by no message, and by the end") {
  box b;
  b.come(message("last") + frame(wire::kind::goodbye));
  CHECK(b.sink.words.back() == "goodbye");
  b.ends.first.reset();
  CHECK(b.read() == inbox::outcome::end);
  CHECK(b.first() == "last");
  box talkative;
  talkative.come(frame(wire::kind::goodbye));
  CHECK(talkative.code_of(message("one more")) == errc::malformed);
}

}  // namespace
}  // namespace cohort::test::inbox_test
