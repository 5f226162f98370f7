// expect: a pointer means nothing to another process
#include <cohort/ipc/codec/codec.hpp>

struct job {
  const char* text;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
