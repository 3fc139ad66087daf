CREATE TABLE invoice (order_id bigint PRIMARY KEY, cents bigint NOT NULL);
