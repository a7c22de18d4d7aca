/* What the library needs of it, where there is no C library: instructions of WebAssembly. */
#define memcpy __builtin_memcpy
#define memmove __builtin_memmove
#define memset __builtin_memset
