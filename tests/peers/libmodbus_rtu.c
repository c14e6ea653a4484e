/* A Modbus RTU server made of libmodbus, on one end of a serial line.
 *
 *     libmodbus_rtu DEVICE        prints READY
 *
 * Unit 7, 115200 8E1. Holding register n holds 1000 + n; 200 and on are illegal. Input register 0 counts the requests.
 * Every 61st answer comes 400 ms late. */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <unistd.h>

#define UNIT 7
#define REGISTERS 200
#define LATE_EACH 61
#define LATE_US 400000

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    modbus_t *line = modbus_new_rtu(argv[1], 115200, 'E', 8, 1);
    modbus_mapping_t *mapping = modbus_mapping_new(16, 16, REGISTERS, 16);
    if (line == NULL || mapping == NULL) return 1;
    for (int n = 0; n < REGISTERS; n++) mapping->tab_registers[n] = (uint16_t)(1000 + n);
    mapping->tab_bits[3] = 1;
    modbus_set_slave(line, UNIT);
    if (modbus_connect(line) != 0) {
        fprintf(stderr, "%s: %s\n", argv[1], modbus_strerror(errno));
        return 1;
    }
    puts("READY");
    fflush(stdout);
    for (unsigned requests = 1;;) {
        uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
        int length = modbus_receive(line, query);
        if (length < 0 && errno == EIO) return 1; /* the line is gone */
        if (length <= 0) continue;                /* a broken frame, or one for another unit */
        mapping->tab_input_registers[0] = (uint16_t)requests;
        if (++requests % LATE_EACH == 0) usleep(LATE_US);
        modbus_reply(line, query, length, mapping);
    }
}
