-- A step of release 0.1.0 that revision 0005 made void: a new database skips it. The driver needs one statement.
SELECT;
