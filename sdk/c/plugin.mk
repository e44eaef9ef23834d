# Builds a plugin: the makefile that includes this one says its NAME and SOURCES, and `make` makes
# dist/$(NAME).wasm. With clang, lld and wasi-libc: those of WASI_SDK_PATH, or else Debian's packages
# clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc.

EPICENTER := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

ifdef WASI_SDK_PATH
CLANG ?= $(WASI_SDK_PATH)/bin/clang
else
CLANG ?= clang-19 --sysroot=/usr
endif

CFLAGS ?= -Os
CFLAGS += -std=gnu23 -Wall -Wextra -Wno-missing-field-initializers -I$(EPICENTER)
# With the formats of `long double`, because without them vsnprintf tells stderr that they are missing,
# for which the plugin would import WASI.
LDFLAGS += -mexec-model=reactor -flto -Wl,--strip-all -lc-printscan-long-double
# The stack comes first in the memory, so that one that overflows traps and overwrites nothing.
LDFLAGS += -Wl,--stack-first -Wl,-z,stack-size=262144

# Of yyjson, what is not used.
YYJSON := -DYYJSON_DISABLE_NON_STANDARD=1 -DYYJSON_DISABLE_UTILS=1

SDK := epicenter.c bindings/workspace.c yyjson/yyjson.c
OBJECTS := $(patsubst %.c,build/%.o,$(SOURCES)) $(patsubst %.c,build/epicenter/%.o,$(SDK))

.PHONY: all clean
all: dist/$(NAME).wasm

# Linked beside and then renamed, because a running host may watch the folder.
dist/$(NAME).wasm: $(OBJECTS)
	@mkdir -p $(@D)
	$(CLANG) --target=wasm32-wasi $(CFLAGS) $(LDFLAGS) $^ $(EPICENTER)/bindings/workspace_component_type.o -o $(@D)/.$(@F).partial
	@mv $(@D)/.$(@F).partial $@

build/epicenter/%.o: $(EPICENTER)/%.c
	@mkdir -p $(@D)
	$(CLANG) --target=wasm32-wasi $(CFLAGS) $(YYJSON) -flto -MMD -c $< -o $@

build/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG) --target=wasm32-wasi $(CFLAGS) -flto -MMD -c $< -o $@

clean:
	rm -rf build dist

-include $(OBJECTS:.o=.d)
