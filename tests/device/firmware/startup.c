/* From reset to main on the boards that QEMU emulates, and a count of SysTick's ticks.
 *
 * Input and output go through semihosting (newlib's rdimon); the loader has put everything but zeros
 * where it belongs.
 */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t stack_top, bss_begin, bss_end;
void initialise_monitor_handles(void);
int main(void);
uint64_t ticks(void);

#define SYST_CSR (*(volatile uint32_t *)0xE000E010U)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014U)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018U)
#define VTOR (*(volatile uint32_t *)0xE000ED08U)
#define CPACR (*(volatile uint32_t *)0xE000ED88U)
#define TURN 0x1000000U /* SysTick counts 24 bits */

static volatile uint32_t turns;

/* Ticks of the processor's clock since reset. */
uint64_t ticks(void)
{
    uint32_t before, now;

    do {
        before = turns;
        now = SYST_CVR;
    } while (before != turns);
    return (uint64_t)before * TURN + (TURN - now);
}

static void wrapped(void)
{
    turns++;
}

static void fault(void)
{
    /* SYS_EXIT with ADP_Stopped_InternalError: QEMU ends with 1. */
    register uint32_t operation __asm__("r0") = 0x18, reason __asm__("r1") = 0x20024;

    __asm__ volatile("bkpt 0xAB" : : "r"(operation), "r"(reason) : "memory");
    for (;;) {
    }
}

/* What exit asks for. */
void _fini(void);
void _fini(void)
{
}

static void reset(void);

typedef void (*handler)(void);
__attribute__((section(".vectors"), used)) static const handler vectors[16] = {
    (handler)&stack_top, reset, fault, fault, fault, fault, fault, fault,
    0, 0, 0, fault, fault, 0, fault, wrapped,
};

static void reset(void)
{
    for (uint32_t *word = &bss_begin; word < &bss_end; word++)
        *word = 0;
    VTOR = (uint32_t)vectors;
    CPACR |= 0xFU << 20; /* floating point, and vectors where there are any */
    __asm__ volatile("dsb\n isb" : : : "memory");
    SYST_RVR = TURN - 1;
    SYST_CVR = 0;
    SYST_CSR = 7; /* the processor's clock, with an interrupt at each turn */
    initialise_monitor_handles();
    exit(main());
}
