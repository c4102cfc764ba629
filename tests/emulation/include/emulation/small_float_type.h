// Writes out a 16-bit floating type as CUDA has it: bits, with conversions. No include guard: once
// for each type.
//
//   FACENET_SMALL, FACENET_SMALL_RAW, FACENET_SMALL2   the names of the type, its bits, its pair
//   FACENET_SMALL_FROM, FACENET_SMALL_TO               conversions of bits from and to float

struct FACENET_SMALL_RAW {
  unsigned short x;
};

class FACENET_SMALL {
 public:
  FACENET_SMALL() = default;
  constexpr FACENET_SMALL(const FACENET_SMALL_RAW& raw) : bits_(raw.x) {}
  FACENET_SMALL(float value) : bits_(FACENET_SMALL_FROM(value)) {}
  explicit FACENET_SMALL(double value) : bits_(FACENET_SMALL_FROM(float(value))) {}
  explicit FACENET_SMALL(int value) : bits_(FACENET_SMALL_FROM(float(value))) {}
  operator float() const { return FACENET_SMALL_TO(bits_); }
  operator FACENET_SMALL_RAW() const { return {bits_}; }

 private:
  unsigned short bits_;
};
static_assert(sizeof(FACENET_SMALL) == 2, "two bytes");

struct alignas(4) FACENET_SMALL2 {
  FACENET_SMALL x, y;
};
